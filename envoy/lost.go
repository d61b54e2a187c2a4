package envoy

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A Reclaimer takes back what was admitted for a request that went nowhere.
type Reclaimer interface {
	// Reclaim closes the open admissions of a request as never sent, and does
	// nothing where there are none. requestID is Envoy's, as the Check saw it in
	// x-request-id. It must not block on I/O.
	Reclaim(now time.Time, requestID string)
}

// lostServer learns of requests whose client hung up between our answer to the
// Check and Envoy's reading it, and of those whose answer came a moment after Envoy
// had stopped waiting. Such a request goes nowhere, and Envoy has no token
// to settle it with; it is in the access log, with no sign of a Check. What the log
// loses, the sweep finds.
type lostServer struct {
	reclaimer Reclaimer
	token     string
	stats     *Stats
	done      <-chan struct{} // closed when the server stops: the stream would not end by itself
}

// lostGrace is how long after an entry its admission is looked for: the Check may
// still be deciding.
const lostGrace = time.Second

// StreamAccessLogs implements alsv3.AccessLogServiceServer.
func (s *lostServer) StreamAccessLogs(stream alsv3.AccessLogService_StreamAccessLogsServer) error {
	if !shows(stream.Context(), s.token) {
		return status.Error(codes.Unauthenticated, "this is not an Envoy of this Tollgate")
	}
	read := make(chan error, 1)
	go func() { read <- s.read(stream) }() // Recv ends with the stream's context, when this returns
	select {
	case err := <-read:
		return err
	case <-s.done:
		return nil
	}
}

func (s *lostServer) read(stream alsv3.AccessLogService_StreamAccessLogsServer) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, e := range m.GetHttpLogs().GetLogEntry() {
			if id := e.GetRequest().GetRequestId(); id != "" && !answered(e) {
				s.stats.LostRequests.Add(1)
				time.AfterFunc(lostGrace, func() { s.reclaimer.Reclaim(time.Now(), id) })
			}
		}
	}
}

// answered reports whether Envoy had our answer to a request's Check: then it has a
// token to settle with, or what we refused with. The access log's filter is to leave
// these out; to close what is under way as never sent would lose its usage.
func answered(e *accesslogv3.HTTPAccessLogEntry) bool {
	check := e.GetCommonProperties().GetMetadata().GetFilterMetadata()[checkFilter].GetFields()
	return check[metaToken] != nil || check[metaAnswered] != nil
}
