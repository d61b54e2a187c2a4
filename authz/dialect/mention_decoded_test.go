package dialect

import (
	"bytes"
	"encoding/json"
	"testing"
)

// decoded are the ids in a body of /v1/t2a_async_v2, each behind its field, as
// encoding/json finds them, to which members in other letters are the same.
func decoded(t *testing.T, body []byte) (ids []string) {
	t.Helper()
	type weights struct {
		VoiceID any `json:"voice_id"`
	}
	var b struct {
		VoiceSetting  json.RawMessage `json:"voice_setting"`
		TimberWeights json.RawMessage `json:"timber_weights"`
		TimbreWeights json.RawMessage `json:"timbre_weights"`
		VoiceID       any             `json:"voice_id"`
		TextFileID    any             `json:"text_file_id"`
	}
	read := func(text []byte, into any) bool {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		return d.Decode(into) == nil
	}
	if !read(body, &b) {
		t.Fatalf("%s can't be read", body)
	}
	add := func(field string, id any) {
		switch id := id.(type) {
		case string:
			if id != "" {
				ids = append(ids, field+" "+id)
			}
		case json.Number:
			ids = append(ids, field+" "+id.String())
		}
	}
	add("voice_id", b.VoiceID)
	add("text_file_id", b.TextFileID)
	for field, text := range map[string]json.RawMessage{
		"voice_setting.voice_id": b.VoiceSetting, "timber_weights.voice_id": b.TimberWeights, "timbre_weights.voice_id": b.TimbreWeights,
	} {
		var one weights
		var list []json.RawMessage
		switch {
		case read(text, &list):
			for _, element := range list {
				one = weights{}
				if read(element, &one) {
					add(field, one.VoiceID)
				}
			}
		case read(text, &one):
			add(field, one.VoiceID)
		}
	}
	return ids
}
