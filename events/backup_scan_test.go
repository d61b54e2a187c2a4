package events

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// A reader that is cut off in the middle goes on where it was; of another stream it
// does not, whether that has come as far already or not.
func TestScanGoesOn(t *testing.T) {
	const messages = 2000 // several times what is on its way at once
	for name, instead := range map[string]int{"the same stream": 0, "another stream": 10, "another stream, as long": messages} {
		t.Run(name, func(t *testing.T) {
			_, nc := embedded(t, natsdConfig)
			js, err := jetstream.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			fill := func(messages int) jetstream.Stream {
				t.Helper()
				s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
				if err != nil {
					t.Fatal(err)
				}
				for range messages {
					if _, err := js.PublishAsync("s", nil); err != nil {
						t.Fatal(err)
					}
				}
				<-js.PublishAsyncComplete()
				return s
			}
			stream, replaced := fill(messages), false
			var last uint64
			err = scanStream(t.Context(), js, "S", 0, false, func(_ jetstream.Msg, meta *jetstream.MsgMetadata) error {
				if meta.Sequence.Stream != last+1 {
					t.Errorf("%d came behind %d", meta.Sequence.Stream, last)
				}
				last = meta.Sequence.Stream
				if last%900 != 1 {
					return nil
				}
				if instead != 0 && !replaced {
					if err := js.DeleteStream(t.Context(), "S"); err != nil {
						t.Error(err)
					}
					stream, replaced = fill(instead), true
					return nil
				}
				for consumer := range stream.ListConsumers(t.Context()).Info() {
					if err := stream.DeleteConsumer(t.Context(), consumer.Name); err != nil {
						t.Error(err)
					}
				}
				return nil
			})
			if whole := last == messages; (err == nil) != whole || whole == replaced {
				t.Errorf("read up to %d: %v", last, err)
			}
		})
	}
}
