package totals

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"tollgate/events"
)

// BenchmarkFold is what one core folds, from a stored event's bytes on: a
// thousand keys of ten models, each second a new one in the same minute.
func BenchmarkFold(b *testing.B) {
	const distinct = 10_000
	payloads := make([][]byte, distinct)
	for i := range payloads {
		e := usage(fmt.Sprintf("0198f3c2-6c1e-7b7a-9d3e-%012d", i), "demo", fmt.Sprintf("550e8400-e29b-41d4-a716-%012d", i%1000),
			fmt.Sprint("meta-llama/Llama-3.1-8B-Instruct-", i%10), noon.Add(time.Duration(i)*time.Millisecond))
		e.Data.TraceParent, e.Data.Upstream = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "127.0.0.1:9100"
		e.Data.Labels = map[string]string{"cost": "1", "team": "red"}
		payloads[i] = e.AppendJSON(nil)
	}
	s := newState()
	s.trim(noon)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e, err := parseEvent(payloads[i%distinct])
		if err != nil {
			b.Fatal(err)
		}
		if !s.Fold(&e, events.Position{Replica: "0198f3c2-6c1e-7b7a-9d3e-0123456789ab", Epoch: 1, Seq: uint64(i + 1)}) {
			b.Fatal("not new")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkMemory tells what so many keys of ten models take, each used in so
// many hours.
func BenchmarkMemory(b *testing.B) {
	for _, size := range []struct{ keys, hours int }{{100_000, 1}, {10_000, 24}} {
		keys, hours := size.keys, size.hours
		b.Run(fmt.Sprint(keys, "x", hours, "h"), func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				s := newState()
				seq := uint64(0)
				for hour := range hours {
					at := noon.Add(time.Duration(hour) * time.Hour)
					for k := range keys {
						// Texts of their own, as they come from a stored event.
						key := fmt.Sprintf("550e8400-e29b-41d4-a716-%012d", k)
						for m := range 10 {
							seq++
							e := event{workspace: fmt.Sprint("w", k%100), key: key, model: fmt.Sprint("model-", m), at: at,
								counts: Counts{Requests: 20, InputTokens: 12_345, OutputTokens: 2345}}
							s.Fold(&e, events.Position{Replica: "r", Epoch: 1, Seq: seq})
						}
					}
					s.trim(at.Add(100 * time.Hour))
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
				file := &counter{}
				began := time.Now()
				if err := s.writeSnapshot(file, place{}); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(file.n)/(1<<20), "snapshot-MiB")
				b.ReportMetric(float64(time.Since(began).Milliseconds()), "snapshot-ms")
				began = time.Now()
				if _, err := s.Totals(Query{GroupBy: ByModel | ByDay}); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(time.Since(began).Milliseconds()), "query-all-ms")
				began = time.Now()
				if _, err := s.Totals(Query{Workspace: "w7", GroupBy: ByHour}); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(time.Since(began).Microseconds()), "query-workspace-us")
			}
		})
	}
}

type counter struct{ n int }

func (c *counter) Write(b []byte) (int, error) {
	c.n += len(b)
	return len(b), nil
}

var _ io.Writer = (*counter)(nil)
