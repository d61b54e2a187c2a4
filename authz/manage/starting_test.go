package manage_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"tollgate/authz/manage"
)

func TestStarting(t *testing.T) {
	starting := manage.Starting(func() string { return "waits for something" })
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{http.MethodGet, "/livez", `{"status":"ok"}`, http.StatusOK},
		{http.MethodGet, "/readyz", `{"statusCode":503,"statusMessage":"Service Unavailable","message":"Tollgate is starting and waits for something. Try again when GET /readyz says 200"}`, http.StatusServiceUnavailable},
		{http.MethodPost, "/api/v1/api-keys", "", http.StatusServiceUnavailable},
		{http.MethodPost, "/livez", "", http.StatusServiceUnavailable},
	} {
		w := httptest.NewRecorder()
		starting.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status || c.body != "" && w.Body.String() != c.body || c.status != http.StatusOK && w.Header().Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s %v", c.method, c.path, w.Code, w.Body, w.Header())
		}
	}
}
