package envoy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
)

// adminCall asks the Envoy that runs in dir. Each call has a connection of its
// own; answers are small.
func adminCall(ctx context.Context, dir, method, path string) (string, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialSocket(ctx, filepath.Join(dir, AdminSocket))
		},
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return string(body), fmt.Errorf("envoy's admin: %s %s: %s", method, path, resp.Status)
	}
	return string(body), nil
}

// maxSocketPath is what fits into a socket's address on every system.
const maxSocketPath = 100

// dialSocket connects to a socket by its path, which may be longer than a
// socket's address can be: Linux then reaches it through an open directory.
func dialSocket(ctx context.Context, path string) (net.Conn, error) {
	if len(path) > maxSocketPath {
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		path = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}
