package authz

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math"
	"sync"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/limit"
	"tollgate/authz/money"
	"tollgate/authz/reason"
)

// An admission's written form is one version byte and then its fields in the
// order of AppendBinary: strings as a length and bytes, integers and times
// (microseconds since 1970) as signed varints, amounts in their packed form. It stands in
// the journal as it is and, sealed, in the token. A field is added at the end,
// with a new version; a version is read as long as the one before it is (see
// docs/design/formats.md). Version 1 knew nothing of money: it ends before Path.
const admissionVersion = 2

// Flags of the written form.
const (
	flagStream = 1 << iota
	flagCapped
	flagKeyMissing // Observed; these two came later, what doesn't know them leaves them out
	flagKeyInvalid
	// Billing; of version 2.
	flagChargeUnsettled
	flagFreeEstimated
	flagFreeErrors
)

// Bounds of what a parser accepts, far above what a check can write.
const (
	maxLabels    = 256
	maxFieldSize = 1 << 16
	maxRates     = 64
)

// ErrToken is what every token that doesn't verify or parse is answered with.
var ErrToken = errors.New("not an admission token of this deployment")

// AppendBinary appends the admission's written form. It never fails.
func (a *Admission) AppendBinary(b []byte) []byte {
	b = append(b, admissionVersion)
	for _, s := range [...]string{
		a.ID, a.Replica, a.Workspace, a.Key, a.User, a.ExternalID, a.Model,
		a.Dialect, a.ClientRequestID, a.ProxyRequestID, a.TraceParent, a.ModelLimit,
	} {
		b = appendString(b, s)
	}
	b = appendLabels(b, a.Labels)
	b = appendLabels(b, a.Tags)
	var flags int64
	if a.Stream {
		flags |= flagStream
	}
	if a.Capped {
		flags |= flagCapped
	}
	switch a.Observed {
	case reason.KeyMissing:
		flags |= flagKeyMissing
	case reason.KeyInvalid:
		flags |= flagKeyInvalid
	}
	flags |= seenFlag(a.Billing.ChargeUnsettled, flagChargeUnsettled) |
		seenFlag(a.Billing.FreeEstimated, flagFreeEstimated) | seenFlag(a.Billing.FreeErrors, flagFreeErrors)
	for _, n := range [...]int64{
		flags, int64(a.RatesVersion), a.Start.UnixMicro(), a.Deadline.UnixMicro(),
		a.Reserved.At.UnixMicro(), a.Reserved.Tokens, int64(a.Reserved.Counted),
		a.InputEstimate, a.OutputEstimate, a.PromptBytes,
	} {
		b = binary.AppendVarint(b, n)
	}
	return a.appendMoney(b)
}

// appendMoney appends what version 2 added.
func (a *Admission) appendMoney(b []byte) []byte {
	for _, s := range [...]string{a.Path, a.Creating, a.Counting, a.Generation} {
		b = appendString(b, s)
	}
	b = binary.AppendVarint(b, a.Choices)
	b = binary.AppendVarint(b, microseconds(a.RatesFrom))
	b = binary.AppendUvarint(b, uint64(len(a.Rates)))
	for i := range a.Rates {
		b = a.Rates[i].Price.AppendPacked(appendString(b, a.Rates[i].Unit))
	}
	return a.Held.AppendPacked(a.Multiplier.AppendPacked(b))
}

// microseconds are 0 for the zero time, which is far before 1970.
func microseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendLabels(b []byte, labels []Label) []byte {
	b = binary.AppendUvarint(b, uint64(len(labels)))
	for _, l := range labels {
		b = appendString(appendString(b, l.Name), l.Value)
	}
	return b
}

// ParseAdmission reads what AppendBinary wrote. Any other input is an error.
func ParseAdmission(data []byte) (*Admission, error) {
	r := reader{data: data}
	version := r.byte()
	if r.err == nil && (version == 0 || version > admissionVersion) {
		return nil, fmt.Errorf("an admission of version %d: this Tollgate reads versions 1 to %d", version, admissionVersion)
	}
	a := &Admission{}
	for _, s := range [...]*string{
		&a.ID, &a.Replica, &a.Workspace, &a.Key, &a.User, &a.ExternalID, &a.Model,
		&a.Dialect, &a.ClientRequestID, &a.ProxyRequestID, &a.TraceParent, &a.ModelLimit,
	} {
		*s = r.string()
	}
	a.Labels = r.labels()
	a.Tags = r.labels()
	flags := r.int()
	a.Stream, a.Capped = flags&flagStream != 0, flags&flagCapped != 0
	switch {
	case flags&flagKeyMissing != 0:
		a.Observed = reason.KeyMissing
	case flags&flagKeyInvalid != 0:
		a.Observed = reason.KeyInvalid
	}
	a.RatesVersion = uint64(r.int())
	a.Start = r.time()
	a.Deadline = r.time()
	a.Reserved.At = r.time()
	a.Reserved.Tokens = r.int()
	a.Reserved.Counted = limit.Set(r.int())
	a.InputEstimate = r.int()
	a.OutputEstimate = r.int()
	a.PromptBytes = r.int()
	a.Multiplier = money.New(1, 0)
	if version > 1 {
		a.Billing = catalog.Billing{
			ChargeUnsettled: flags&flagChargeUnsettled != 0,
			FreeEstimated:   flags&flagFreeEstimated != 0,
			FreeErrors:      flags&flagFreeErrors != 0,
		}
		r.money(a)
	}
	if r.err == nil && len(r.data) > 0 {
		r.err = errors.New("bytes left over")
	}
	if r.err != nil {
		return nil, fmt.Errorf("an admission that can't be read: %w", r.err)
	}
	return a, nil
}

// money reads what appendMoney wrote.
func (r *reader) money(a *Admission) {
	a.Path, a.Creating, a.Counting, a.Generation = r.string(), r.string(), r.string(), r.string()
	a.Choices = r.int()
	if at := r.time(); at.UnixMicro() != 0 {
		a.RatesFrom = at
	}
	for range r.uint(maxRates) {
		if r.err != nil {
			return
		}
		a.Rates = append(a.Rates, Rate{Unit: r.string(), Price: r.amount()})
	}
	a.Multiplier, a.Held = r.amount(), r.amount()
}

func (r *reader) amount() money.Amount {
	a, rest, ok := money.ParsePacked(r.data)
	if !ok {
		r.fail(errAmount)
		return money.Amount{}
	}
	r.data = rest
	return a
}

// reader reads fields until the first error, which it keeps.
type reader struct {
	data []byte
	err  error
}

var (
	errShort  = errors.New("it ends too early")
	errAmount = errors.New("an amount of money can't be read")
)

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.data = nil
}

func (r *reader) byte() byte {
	if len(r.data) == 0 {
		r.fail(errShort)
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return b
}

func (r *reader) uint(most uint64) uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 || v > most {
		r.fail(errShort)
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.data)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) string() string {
	n := r.uint(maxFieldSize)
	if n > uint64(len(r.data)) {
		r.fail(errShort)
		return ""
	}
	s := string(r.data[:n])
	r.data = r.data[n:]
	return s
}

func (r *reader) labels() []Label {
	n := r.uint(maxLabels)
	if n == 0 {
		return nil
	}
	labels := make([]Label, 0, n)
	for range n {
		if r.err != nil {
			return nil
		}
		labels = append(labels, Label{Name: r.string(), Value: r.string()})
	}
	return labels
}

func (r *reader) time() time.Time { return time.UnixMicro(r.int()).UTC() }

// Sealer makes admission tokens and opens them. A token is the URL-safe base64
// of: the sealing key's number (one byte), the first 16 bytes of an HMAC-SHA256
// over that byte and the written form, the written form. Sixteen bytes are
// beyond guessing, and the token stays small: it goes through Envoy's metadata
// and back.
//
// Tokens are sealed with one key and opened with any that the Sealer has, so
// that the key can be changed while requests are under way. A Sealer is safe for
// concurrent use.
type Sealer struct {
	current byte
	keys    [math.MaxUint8 + 1]*sealingKey
}

type sealingKey struct{ macs sync.Pool }

const (
	macSize    = 16
	sealedHead = 1 + macSize
)

// tokenEncoding is strict, so that an admission has one token only.
var tokenEncoding = base64.RawURLEncoding.Strict()

// MinSealingKey is how many bytes a sealing key has at least.
const MinSealingKey = 32

// NewSealer makes a Sealer that seals with keys[current] and opens with all of
// keys. It refuses keys shorter than MinSealingKey.
func NewSealer(current byte, keys map[byte][]byte) (*Sealer, error) {
	s := &Sealer{current: current}
	for n, secret := range keys {
		if len(secret) < MinSealingKey {
			return nil, fmt.Errorf("sealing key %d has %d bytes, at least %d are needed", n, len(secret), MinSealingKey)
		}
		k := &sealingKey{}
		k.macs.New = func() any { return hmac.New(sha256.New, secret) }
		s.keys[n] = k
	}
	if s.keys[current] == nil {
		return nil, fmt.Errorf("sealing key %d is the current one and is missing", current)
	}
	return s, nil
}

// Seal returns the token of an admission whose written form is given.
func (s *Sealer) Seal(written []byte) string {
	var scratch [1024]byte
	raw := append(scratch[:0], s.current)
	raw = s.keys[s.current].append(raw, s.current, written)
	raw = append(raw, written...)
	return tokenEncoding.EncodeToString(raw)
}

// append appends the truncated MAC of a key's number and a written form.
func (k *sealingKey) append(b []byte, number byte, written []byte) []byte {
	mac := k.macs.Get().(hash.Hash)
	defer k.macs.Put(mac)
	mac.Reset()
	var sum [sha256.Size + 1]byte
	sum[0] = number
	mac.Write(sum[:1])
	mac.Write(written)
	return append(b, mac.Sum(sum[:0])[:macSize]...)
}

// Open verifies a token and returns its admission. The error is ErrToken, or
// wraps it, for anything that this deployment did not seal.
func (s *Sealer) Open(token string) (*Admission, error) {
	raw, err := tokenEncoding.DecodeString(token)
	if err != nil || len(raw) < sealedHead {
		return nil, ErrToken
	}
	k := s.keys[raw[0]]
	if k == nil {
		return nil, ErrToken
	}
	written := raw[sealedHead:]
	var want [macSize]byte
	if subtle.ConstantTimeCompare(k.append(want[:0], raw[0], written), raw[1:sealedHead]) != 1 {
		return nil, ErrToken
	}
	a, err := ParseAdmission(written)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return a, nil
}
