package events

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// A reader that is cut off in the middle goes on where it was; of another stream it
// does not.
func TestScanGoesOn(t *testing.T) {
	for name, replaced := range map[string]bool{"the same stream": false, "another stream": true} {
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
			const messages = 2000 // several times what is on its way at once
			stream := fill(messages)
			var last uint64
			err = scanStream(t.Context(), js, "S", 0, false, func(_ jetstream.Msg, meta *jetstream.MsgMetadata) error {
				if meta.Sequence.Stream != last+1 {
					t.Errorf("%d came behind %d", meta.Sequence.Stream, last)
				}
				last = meta.Sequence.Stream
				if last%900 != 1 {
					return nil
				}
				if replaced {
					if err := js.DeleteStream(t.Context(), "S"); err != nil {
						t.Error(err)
					}
					stream, replaced = fill(10), false
					return nil
				}
				for consumer := range stream.ListConsumers(t.Context()).Info() {
					if err := stream.DeleteConsumer(t.Context(), consumer.Name); err != nil {
						t.Error(err)
					}
				}
				return nil
			})
			if whole := last == messages; (err == nil) != whole || whole == (name == "another stream") {
				t.Errorf("read up to %d: %v", last, err)
			}
		})
	}
}
