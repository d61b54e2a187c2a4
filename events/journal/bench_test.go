package journal

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// BenchmarkAdmit admits 600 bytes at a time, from 1 and from 8 goroutines. Each
// 50,000 admissions the segment is rewound, so that what is seen is Admit and
// not the disk.
func BenchmarkAdmit(b *testing.B) {
	for _, goroutines := range []int{1, 8} {
		b.Run(fmt.Sprint("goroutines=", goroutines), func(b *testing.B) {
			cfg := small()
			cfg.SegmentBytes, cfg.MaxBytes, cfg.EventRoom = 64<<20, 512<<20, 64
			j, _ := mustOpen(b, b.TempDir(), cfg)
			payload := bytes.Repeat([]byte("p"), 600)
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= 50_000 {
				var wg sync.WaitGroup
				for range goroutines {
					wg.Go(func() {
						for range min(left, 50_000) / goroutines {
							if _, err := j.Admit(payload); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				cur := j.cur.Load()
				cur.tail.Store(headerSize)
				cur.committed.Store(headerSize)
				cur.live.Store(0)
				j.open.Store(0)
			}
		})
	}
}

// BenchmarkCycle is the life of an admission, acknowledgement included, over
// segments that come and go.
func BenchmarkCycle(b *testing.B) {
	cfg := small()
	cfg.SegmentBytes, cfg.MaxBytes = 0, 0
	j, _ := mustOpen(b, b.TempDir(), cfg)
	payload := bytes.Repeat([]byte("p"), 600)
	ev := Event{Subject: "tollgate.usage.v1.demo.key.model", MsgID: "id", Payload: bytes.Repeat([]byte("e"), 1000)}
	b.ReportAllocs()
	for i := range b.N {
		ref, err := j.Admit(payload)
		for errors.Is(err, ErrFull) {
			ref, err = j.Admit(payload)
		}
		if err != nil {
			b.Fatal(err)
		}
		if err := j.Settle(ref, ev); err != nil {
			b.Fatal(err)
		}
		if i%maxBatch == 0 {
			drain(b, j)
		}
	}
	b.ReportMetric(float64(j.Stats().Full), "refused")
}

// BenchmarkAdmitSync waits for the disk, 64 at a time.
func BenchmarkAdmitSync(b *testing.B) {
	cfg := small()
	cfg.SegmentBytes, cfg.MaxBytes, cfg.Sync = 16<<20, 1<<30, true
	j, _ := mustOpen(b, b.TempDir(), cfg)
	payload := bytes.Repeat([]byte("p"), 600)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := j.Admit(payload); err != nil && !errors.Is(err, ErrFull) {
				b.Error(err)
			}
		}
	})
}

// BenchmarkScan reads a full segment of 16 MiB, as recovery does.
func BenchmarkScan(b *testing.B) {
	cfg := small()
	cfg.SegmentBytes, cfg.MaxBytes = 16<<20, 128<<20
	j, _ := mustOpen(b, b.TempDir(), cfg)
	first := j.cur.Load()
	for j.cur.Load() == first {
		ref, err := j.Admit(make([]byte, 600))
		if err != nil {
			b.Fatal(err)
		}
		if err := j.Settle(ref, Event{Payload: make([]byte, 1000)}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(first.size))
	for b.Loop() {
		scan(first.mem, first.seed, func(record) {})
	}
}
