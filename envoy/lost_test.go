package envoy

import (
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// reclaimed are the requests that were taken back.
type reclaimed struct {
	mu  sync.Mutex
	ids []string
}

func (r *reclaimed) Reclaim(_ time.Time, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(r.ids, id)
}

// logs is a stream of one message.
type logs struct {
	alsv3.AccessLogService_StreamAccessLogsServer

	entries []*accesslogv3.HTTPAccessLogEntry
}

func (l *logs) Recv() (*alsv3.StreamAccessLogsMessage, error) {
	if l.entries == nil {
		return nil, io.EOF
	}
	m := &alsv3.StreamAccessLogsMessage{LogEntries: &alsv3.StreamAccessLogsMessage_HttpLogs{
		HttpLogs: &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: l.entries},
	}}
	l.entries = nil
	return m, nil
}

// What Envoy has our answer to is not lost, whatever is logged: what passed is
// settled by its token, also long after the grace, and of what was refused there is
// nothing.
func TestOnlyLostRequestsAreReclaimed(t *testing.T) {
	entry := func(id, metadata string) *accesslogv3.HTTPAccessLogEntry {
		e := &accesslogv3.HTTPAccessLogEntry{Request: &accesslogv3.HTTPRequestProperties{RequestId: id}, CommonProperties: &accesslogv3.AccessLogCommon{}}
		if metadata != "" {
			e.CommonProperties.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
				checkFilter: {Fields: map[string]*structpb.Value{metadata: structpb.NewStringValue("x")}},
			}}
		}
		return e
	}
	synctest.Test(t, func(t *testing.T) {
		var got reclaimed
		s := &lostServer{reclaimer: &got, stats: &Stats{}}
		err := s.read(&logs{entries: []*accesslogv3.HTTPAccessLogEntry{
			entry("passed", metaToken), entry("lost", ""), entry("refused", metaAnswered), entry("late", "ext_authz_duration"),
		}})
		if !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		time.Sleep(lostGrace)
		synctest.Wait()
		got.mu.Lock()
		defer got.mu.Unlock()
		slices.Sort(got.ids)
		if !slices.Equal(got.ids, []string{"late", "lost"}) || s.stats.LostRequests.Load() != 2 {
			t.Errorf("taken back: %v; %d counted", got.ids, s.stats.LostRequests.Load())
		}
	})
}
