package manage

import "net/http"

// Starting stands in for New's handler until that can be made, which may take
// minutes where many keys are read, or for as long as NATS is away: the process runs,
// and serves nobody yet. what says what it does meanwhile; it must not block.
func Starting(what func() string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status":"ok"}`)) // nobody is left to tell of an error
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, refuse(http.StatusServiceUnavailable, "Tollgate is starting and %s. Try again when GET /readyz says 200", what()))
	})
	return mux
}
