// Serve runs the example model backend until it is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"tollgate/examples/backend"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9100", "address to listen on")
	models := flag.String("models", "", "comma-separated ids of the models it has (default: every name is accepted)")
	flag.Parse()
	if err := serve(*addr, *models); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

func serve(addr, models string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var o backend.Options
	if models != "" {
		o.Models = strings.Split(models, ",")
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "http://%s/v1\n", l.Addr())
	srv := &http.Server{Handler: backend.New(o), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
