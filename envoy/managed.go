package envoy

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// managedHealth is where Envoys ask a replica for its health over HTTP: 200 where
// the health service says SERVING, else 503. No managed path leads here.
const managedHealth = "/healthz"

// managedServer serves h to Envoys.
func managedServer(h http.Handler, state *health.Server, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == managedHealth {
				if s, err := state.Check(r.Context(), new(healthv1.HealthCheckRequest)); err != nil || s.GetStatus() != healthv1.HealthCheckResponse_SERVING {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				return
			}
			// Whoever reaches this listener is an Envoy, or may as well say what one
			// does: it is believed about the client.
			if from := r.Header.Get(remoteHeader); from != "" {
				if addr, err := netip.ParseAddrPort(from); err == nil {
					r.RemoteAddr = addr.String()
				}
				r.Header.Del(remoteHeader)
			}
			h.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * managedIdle,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
