package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tollgate/authz/manage"
)

// What a running Tollgate keeps in its data directory for the command line.
const (
	defaultDataDir  = ".data"
	addressesFile   = "addresses.json"
	operatorKeyFile = "operator.key" // mode 0600
)

// runningAddresses is the content of addressesFile: where the Tollgate that
// holds the data directory listens, as host:port.
type runningAddresses struct {
	Gateway string `json:"gateway"`
	API     string `json:"api"`
	GRPC    string `json:"grpc"`
	Metrics string `json:"metrics"`
	NATS    string `json:"nats,omitempty"` // "": lets nobody in from outside
}

// server is which Tollgate a command manages, and how its answers are printed.
type server struct {
	addr, data string // as given by flag
	output     string // table or json
}

// flags gives a command, and those below it, the flags that find the server.
func (s *server) flags(cmd *cobra.Command) *cobra.Command {
	f := cmd.PersistentFlags()
	f.StringVar(&s.addr, "api-addr", "", "where the management API is (TOLLGATE_API_ADDR)")
	f.StringVar(&s.data, "data", "", "data directory of the running Tollgate (TOLLGATE_DATA, else "+defaultDataDir+")")
	outputFlag(cmd, &s.output)
	return cmd
}

func outputFlag(cmd *cobra.Command, output *string) {
	cmd.PersistentFlags().StringVarP(output, "output", "o", "table", "table, or json: what the API answers")
	// It fails only for a flag that isn't there.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// wantsJSON says which output was asked for.
func wantsJSON(cmd *cobra.Command, output string) (bool, error) {
	switch output {
	case "table":
		return false, nil
	case "json":
		return true, nil
	}
	return false, usage(cmd, "--output is table or json, not %q", output)
}

// client makes a client of the Tollgate that the flags, the environment and the
// data directory say.
func (s *server) client(cmd *cobra.Command) (*manage.Client, *printer, error) {
	asJSON, err := wantsJSON(cmd, s.output)
	if err != nil {
		return nil, nil, err
	}
	if err := readable(cmd); err != nil {
		return nil, nil, err
	}
	data := first(s.data, os.Getenv("TOLLGATE_DATA"), defaultDataDir)
	key, err := operatorKey(data)
	if err != nil {
		return nil, nil, err
	}
	addr, err := s.address(data)
	if err != nil {
		return nil, nil, err
	}
	c, err := manage.NewClient(addr, key, &http.Client{Transport: patient(answerTime)})
	if err != nil {
		return nil, nil, usage(cmd, "%v", err)
	}
	return c, newPrinter(cmd, asJSON), nil
}

// How long a command waits for a Tollgate to be there, and for an answer to begin: a
// change waits for other replicas up to a minute, and events are waited for half of it.
const (
	dialTime   = 10 * time.Second
	answerTime = 2 * time.Minute
)

// patient is a transport that waits so long for an answer to begin, and then gives up on
// the server: it was stopped, or is something else that takes connections.
func patient(answer time.Duration) http.RoundTripper {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSHandshakeTimeout:   dialTime,
		ResponseHeaderTimeout: answer,
	}
}

// readable refuses arguments and flags that are no text: JSON can't carry them.
func readable(cmd *cobra.Command) (err error) {
	for _, arg := range cmd.Flags().Args() {
		if !utf8.ValidString(arg) {
			return usage(cmd, "%q is not UTF-8", arg)
		}
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if !utf8.ValidString(f.Value.String()) {
			err = usage(cmd, "--%s is not UTF-8", f.Name)
		}
	})
	return err
}

func (s *server) address(data string) (string, error) {
	if addr := first(s.addr, os.Getenv("TOLLGATE_API_ADDR")); addr != "" {
		if addr, ok := dialable(addr); ok {
			return addr, nil
		}
	}
	running, err := readAddresses(data)
	if errors.Is(err, fs.ErrNotExist) {
		return defaultAPI, nil
	}
	if err != nil {
		return "", err
	}
	addr, _ := dialable(running.API)
	return addr, nil
}

// readAddresses reads what the Tollgate that holds a data directory says. The
// error wraps fs.ErrNotExist where none runs.
func readAddresses(data string) (running runningAddresses, err error) {
	path := filepath.Join(data, addressesFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return running, err
	}
	if err := json.Unmarshal(text, &running); err != nil || running.API == "" {
		return running, fmt.Errorf("%s does not say where the API is; name it by --api-addr", path)
	}
	return running, nil
}

// dialable turns an address to listen on into one to connect to. One whose port
// the system was to choose is not.
func dialable(addr string) (string, bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, true
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port), port != "0"
}

// operatorKey is the key that the command line presents.
func operatorKey(data string) (string, error) {
	if k := strings.TrimSpace(os.Getenv("TOLLGATE_OPERATOR_KEY")); k != "" {
		return k, nil
	}
	path := filepath.Join(data, operatorKeyFile)
	text, err := os.ReadFile(path)
	switch k := strings.TrimSpace(string(text)); {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no operator's key at %s; set TOLLGATE_DATA to the data directory of the running Tollgate, or TOLLGATE_OPERATOR_KEY", path)
	case err != nil:
		return "", err
	case k == "":
		return "", fmt.Errorf("%s is empty; set TOLLGATE_OPERATOR_KEY", path)
	default:
		return k, nil
	}
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
