package key

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strconv"
	"strings"
)

// DefaultFormat is the form of keys where a workspace sets none: a literal, a
// part that may be shown, 190 bits of secret, and a checksum.
const DefaultFormat = "tg_{base62:8}_{base62:32}{crc}"

// Bounds of a format.
const (
	MinFormatBits = 128 // of randomness in a secret
	MaxFormatSize = 256 // characters of a secret
)

// What of a secret stays hidden when its prefix is shown.
const (
	hiddenBehindGroup = 128 // bits, where a whole random group is shown
	hiddenAlways      = 112 // bits, where only the start of a group is shown
	shownOfGroup      = 4   // characters, at most, in that case
)

// Alphabets. The order of base62 is that of GitHub's checksums.
const (
	hexDigits = "0123456789abcdef"
	base62    = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// crcSize is how many base62 characters a CRC-32 takes: 62^6 > 2^32.
const crcSize = 6

// Format is the form of a workspace's keys, parsed from a pattern. All secrets
// of a format have the same length. The zero Format matches nothing and
// generates nothing. A Format may be copied and used by many goroutines.
type Format struct {
	pattern string
	parts   []part
	size    int // of a secret
	shown   int // of it, from its start, is the prefix
}

// part is a stretch of a secret: a literal text or, where text is empty, size
// characters of a set; a checksum is a part whose set is nil.
type part struct {
	text string
	set  *charset
	size int
}

// charset is an alphabet, and which bytes belong to it.
type charset struct {
	name     string
	alphabet string
	bits     float64 // of randomness in a character
	has      [256]bool
}

var charsets = [...]*charset{newCharset("hex", hexDigits), newCharset("base62", base62)}

func newCharset(name, alphabet string) *charset {
	s := &charset{name: name, alphabet: alphabet, bits: math.Log2(float64(len(alphabet)))}
	for i := range len(alphabet) {
		s.has[alphabet[i]] = true
	}
	return s
}

// ParseFormat reads a pattern: literal characters and placeholders {hex:N},
// {base62:N} (N random characters) and, at the end, {crc} (6 characters, the
// CRC-32 of everything before them in base62). A secret has at least
// MinFormatBits of randomness and at most MaxFormatSize characters, and each
// literal may stand in an HTTP header token. The error says what to change.
func ParseFormat(pattern string) (Format, error) {
	f := Format{pattern: pattern}
	for rest := pattern; rest != ""; {
		p, n, err := parsePart(rest)
		if err != nil {
			return Format{}, fmt.Errorf("key format %s: at character %d: %w", quoted(pattern), len(pattern)-len(rest)+1, err)
		}
		rest = rest[n:]
		if p.isChecksum() && rest != "" {
			return Format{}, fmt.Errorf("key format %s: {crc} is the checksum of all before it: put it at the end", quoted(pattern))
		}
		f.parts = append(f.parts, p)
		f.size += p.size
		if f.size > MaxFormatSize {
			return Format{}, fmt.Errorf("key format %s: a key may have %d characters at most: use a shorter literal or smaller N", quoted(pattern), MaxFormatSize)
		}
	}
	if bits := randomBits(f.parts); bits < MinFormatBits {
		return Format{}, fmt.Errorf("key format %s has %d bits of randomness and needs %d: use {hex:32}, {base62:22} or more",
			quoted(pattern), int(bits), MinFormatBits)
	}
	f.shown = shownSize(f.parts)
	return f, nil
}

// MustFormat is ParseFormat for a pattern in the program's text. It panics where
// the pattern is wrong.
func MustFormat(pattern string) Format {
	f, err := ParseFormat(pattern)
	if err != nil {
		panic(err)
	}
	return f
}

// quoted is a pattern for an error text, cut where it is overlong.
func quoted(pattern string) string {
	if len(pattern) > MaxFormatSize {
		return strconv.Quote(pattern[:MaxFormatSize]) + "…"
	}
	return strconv.Quote(pattern)
}

// parsePart reads the first part of a pattern and tells its length there.
func parsePart(s string) (p part, n int, err error) {
	if s[0] != '{' {
		n = len(s)
		for i := range len(s) {
			if s[i] == '{' {
				n = i
				break
			}
			if !isTokenByte(s[i]) {
				return part{}, 0, fmt.Errorf("%q can't stand in a key: use letters, digits and any of !#$%%&'*+-.^_`|~", s[i])
			}
		}
		return part{text: s[:n], size: n}, n, nil
	}
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return part{}, 0, errors.New("a { has no }: placeholders are {hex:N}, {base62:N} and {crc}")
	}
	name, count, hasCount := strings.Cut(s[1:end], ":")
	if name == "crc" && !hasCount {
		return part{size: crcSize}, end + 1, nil
	}
	for _, set := range charsets {
		if set.name != name || !hasCount {
			continue
		}
		size, err := strconv.ParseUint(count, 10, 16)
		if err != nil || size == 0 || size > MaxFormatSize || count[0] == '0' {
			return part{}, 0, fmt.Errorf("the N of {%s:N} is a number from 1 to %d", name, MaxFormatSize)
		}
		return part{set: set, size: int(size)}, end + 1, nil
	}
	return part{}, 0, errors.New("no such placeholder: there are {hex:N}, {base62:N} and {crc}")
}

func (p *part) isRandom() bool   { return p.set != nil }
func (p *part) isChecksum() bool { return p.set == nil && p.text == "" }

func randomBits(parts []part) float64 {
	var bits float64
	for i := range parts {
		if parts[i].isRandom() {
			bits += parts[i].set.bits * float64(parts[i].size)
		}
	}
	return bits
}

// shownSize decides how much of a secret is its prefix: what stands before the
// first random group, and that group if at least hiddenBehindGroup bits follow
// it; else up to shownOfGroup characters of the group, as long as hiddenAlways
// bits stay hidden.
func shownSize(parts []part) int {
	shown := 0
	for i := range parts {
		p := &parts[i]
		if !p.isRandom() {
			shown += p.size
			continue
		}
		behind := randomBits(parts[i+1:])
		if behind >= hiddenBehindGroup {
			return shown + p.size
		}
		n := min(shownOfGroup, p.size)
		for n > 0 && behind+p.set.bits*float64(p.size-n) < hiddenAlways {
			n--
		}
		return shown + n
	}
	return shown
}

// isTokenByte reports whether c is an RFC 9110 tchar.
func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// String is the pattern.
func (f Format) String() string { return f.pattern }

// Generate makes a secret, and tells the prefix that may be shown of it (always
// its beginning; see shownSize). Every secret of the format is equally likely.
// rand is a cryptographic source; when it fails, or never yields a usable byte,
// Generate returns an error and no secret.
func (f Format) Generate(rand io.Reader) (secret, prefix string, err error) {
	if f.size == 0 {
		return "", "", errors.New("no key format: use ParseFormat")
	}
	out := make([]byte, 0, f.size)
	for i := range f.parts {
		switch p := &f.parts[i]; {
		case p.isRandom():
			if out, err = p.set.appendRandom(out, p.size, rand); err != nil {
				return "", "", fmt.Errorf("make a key: %w", err)
			}
		case p.isChecksum():
			sum := checksum(string(out))
			out = append(out, sum[:]...)
		default:
			out = append(out, p.text...)
		}
	}
	secret = string(out)
	return secret, secret[:f.shown], nil
}

// maxDraws bounds how many bytes of the source are looked at per character. A
// sound source rejects 8 bytes of 256 at most, so it never gets there.
const maxDraws = 64

// appendRandom appends n characters of the set. A byte that would favour some
// characters (from the last multiple of the set's size on) is thrown away.
func (s *charset) appendRandom(out []byte, n int, rand io.Reader) ([]byte, error) {
	var buf [64]byte
	fair := 256 - 256%len(s.alphabet)
	for draws := n * maxDraws; n > 0; {
		if draws <= 0 {
			return nil, errors.New("the random source repeats itself")
		}
		chunk := buf[:min(n, len(buf))]
		draws -= len(chunk)
		if _, err := io.ReadFull(rand, chunk); err != nil {
			return nil, fmt.Errorf("read the random source: %w", err)
		}
		for _, b := range chunk {
			if int(b) < fair {
				out = append(out, s.alphabet[int(b)%len(s.alphabet)])
				n--
			}
		}
	}
	return out, nil
}

// Match reports whether secret has the format's form, and its checksum where
// the format has one. It does not allocate. It says nothing of whether there is
// such a key.
func (f Format) Match(secret string) bool {
	if f.size == 0 || len(secret) != f.size {
		return false
	}
	at := 0
	for i := range f.parts {
		p := &f.parts[i]
		s := secret[at : at+p.size]
		switch {
		case p.isRandom():
			for j := range len(s) {
				if !p.set.has[s[j]] {
					return false
				}
			}
		case p.isChecksum():
			if sum := checksum(secret[:at]); string(sum[:]) != s {
				return false
			}
		case s != p.text:
			return false
		}
		at += p.size
	}
	return true
}

// Claims reports whether secret begins with the literal that the format begins
// with, so that it looks meant for this format. It is false for a format that
// begins with random characters.
func (f Format) Claims(secret string) bool {
	return f.size > 0 && f.parts[0].text != "" && strings.HasPrefix(secret, f.parts[0].text)
}

// checksum is the CRC-32 (IEEE) of s in base62, padded with zeros. It goes
// through the table by itself because crc32.ChecksumIEEE would make a copy of s
// on the heap.
func checksum(s string) (sum [crcSize]byte) {
	crc := ^uint32(0)
	for i := range len(s) {
		crc = crc32.IEEETable[byte(crc)^s[i]] ^ crc>>8
	}
	crc = ^crc
	for i := crcSize - 1; i >= 0; i-- {
		sum[i] = base62[crc%62]
		crc /= 62
	}
	return sum
}
