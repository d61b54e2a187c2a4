package relay

import (
	"encoding/binary"
	"errors"
	"fmt"

	"tollgate/authz"
)

// What replicas say to each other, version 1, begins with the version as a byte.
// Counts and lengths are unsigned varints; a text is its length and bytes.
//   - a request to settle: the count, and of each its observation (written form)
//     and its token, both as texts;
//   - a request to adopt: the owner's replica and incarnation, the count, the
//     tokens, all as texts;
//   - the answer to both: the count, and a byte for each.
const wireVersion = 1

// maxItems bounds what a request may name, and its answer.
const maxItems = 4096

// answer is what a replica says of one settlement or copy.
type answer byte

const (
	answerRecorded answer = 1 // it has it, or had closed it
	answerAgain    answer = 2 // it can't write it down now
	answerRefused  answer = 3 // the token does not verify there, or it isn't for that replica
)

// settlement is one of a request to settle.
type settlement struct {
	seen  authz.Observation
	token string
}

// handover is a request to adopt.
type handover struct {
	owner, incarnation string
	tokens             []string
}

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func encodeSettle(all []settlement) []byte {
	b := binary.AppendUvarint([]byte{wireVersion}, uint64(len(all)))
	for i := range all {
		b = appendText(b, all[i].seen.AppendBinary(nil))
		b = appendText(b, all[i].token)
	}
	return b
}

func decodeSettle(data []byte) ([]settlement, error) {
	r := wireReader{data: data}
	all := make([]settlement, r.head())
	for i := range all {
		seen, err := authz.ParseObservation(r.text())
		if err != nil {
			r.fail(err)
		}
		all[i] = settlement{seen, string(r.text())}
	}
	return all, r.end()
}

func encodeAdopt(h handover) []byte {
	b := appendText(appendText([]byte{wireVersion}, h.owner), h.incarnation)
	b = binary.AppendUvarint(b, uint64(len(h.tokens)))
	for _, token := range h.tokens {
		b = appendText(b, token)
	}
	return b
}

func decodeAdopt(data []byte) (handover, error) {
	r := wireReader{data: data}
	r.version()
	h := handover{owner: string(r.text()), incarnation: string(r.text())}
	h.tokens = make([]string, r.count())
	for i := range h.tokens {
		h.tokens[i] = string(r.text())
	}
	return h, r.end()
}

func encodeAnswers(all []answer) []byte {
	b := binary.AppendUvarint([]byte{wireVersion}, uint64(len(all)))
	for _, a := range all {
		b = append(b, byte(a))
	}
	return b
}

// decodeAnswers reads the answer to a request of want items.
func decodeAnswers(data []byte, want int) ([]answer, error) {
	r := wireReader{data: data}
	n := r.head()
	if r.err == nil && (n != want || len(r.data) != n) {
		r.fail(fmt.Errorf("it answers %d of %d", n, want))
	}
	all := make([]answer, len(r.data))
	for i, b := range r.data {
		all[i] = answer(b)
	}
	r.data = nil
	return all, r.end()
}

var errWire = errors.New("it ends too early, or is too long")

// wireReader reads until the first error, which it keeps.
type wireReader struct {
	data []byte
	err  error
}

func (r *wireReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.data = nil
}

func (r *wireReader) version() {
	if len(r.data) == 0 {
		r.fail(errWire)
		return
	}
	if r.data[0] != wireVersion {
		r.fail(fmt.Errorf("it is of version %d: this Tollgate reads version %d", r.data[0], wireVersion))
		return
	}
	r.data = r.data[1:]
}

// count is the number of items that follow, each of a byte at least.
func (r *wireReader) count() int {
	v, n := binary.Uvarint(r.data)
	if n <= 0 || v > maxItems || v > uint64(len(r.data)-n) {
		r.fail(errWire)
		return 0
	}
	r.data = r.data[n:]
	return int(v)
}

func (r *wireReader) head() int {
	r.version()
	return r.count()
}

func (r *wireReader) text() []byte {
	v, n := binary.Uvarint(r.data)
	if n <= 0 || v > uint64(len(r.data)-n) {
		r.fail(errWire)
		return nil
	}
	text := r.data[n : n+int(v)]
	r.data = r.data[n+int(v):]
	return text
}

func (r *wireReader) end() error {
	if r.err == nil && len(r.data) > 0 {
		r.err = errWire
	}
	if r.err != nil {
		return fmt.Errorf("what a replica sent can't be read: %w", r.err)
	}
	return nil
}
