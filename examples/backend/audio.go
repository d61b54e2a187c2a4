package backend

import (
	"errors"
	"io"
	"net/http"
	"strconv"
)

// maxField is the most bytes of a multipart field other than the file.
const maxField = 64 << 10

// transcribe reads the form part by part, in whatever order they come; the file
// is counted and not kept.
func (b *Backend) transcribe(x *exchange) error {
	form, err := x.r.MultipartReader()
	if err != nil {
		return badRequest("", "the body is no multipart/form-data: "+err.Error())
	}
	var size int64
	hasFile, fields := false, map[string]string{}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return formError(err)
		}
		if part.FormName() == "file" {
			hasFile = true
			if size, err = io.Copy(io.Discard, part); err != nil {
				return formError(err)
			}
			continue
		}
		value, err := io.ReadAll(io.LimitReader(part, maxField+1))
		if err != nil {
			return formError(err)
		}
		if len(value) > maxField {
			return badRequest(part.FormName(), "the field is too long")
		}
		fields[part.FormName()] = string(value)
	}
	if err := b.start(x, fields["model"]); err != nil {
		return err
	}
	if !hasFile {
		return badRequest("file", "file is missing")
	}
	if fields["stream"] == "true" {
		return badRequest("stream", "this backend does not stream transcriptions")
	}
	said := generate(seeded("audio", fields["model"], fields["prompt"], strconv.FormatInt(size, 10)), x.knobs.tokens, -1)
	words, audio := Tokens(fields["prompt"]), AudioTokens(size)
	x.count(words+audio, len(said.words))
	switch fields["response_format"] {
	case "", "json":
		return x.answer(map[string]any{
			"text": said.text(),
			"usage": map[string]any{
				"type": "tokens", "input_tokens": words + audio, "output_tokens": len(said.words),
				"total_tokens":        words + audio + len(said.words),
				"input_token_details": map[string]int{"text_tokens": words, "audio_tokens": audio},
			},
		})
	case "text":
		x.writeBody(http.StatusOK, "text/plain; charset=utf-8", []byte(said.text()+"\n"))
		return nil
	}
	return badRequest("response_format", `response_format is "json" or "text"`)
}

func formError(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return err
	}
	return badRequest("", "the form can't be read: "+err.Error())
}
