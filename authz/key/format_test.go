package key

import (
	"bytes"
	"crypto/rand"
	"errors"
	"hash/crc32"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// goodFormats are patterns with the length of their secrets and of the prefix
// that may be shown.
var goodFormats = []struct {
	pattern      string
	size, prefix int
}{
	{DefaultFormat, 50, len("tg_") + 8},
	{"minds_{hex:48}", 54, len("minds_") + 4},
	{"{base62:8}.{base62:32}", 41, 8},
	{"{hex:32}", 32, 4},                          // 128 bits: 112 stay hidden
	{"sk-{base62:22}", 25, len("sk-") + 3},       // 131 bits: 4 characters would leave 107
	{"a{hex:2}b{hex:32}{crc}", 42, len("a") + 2}, // 128 bits behind the first group
	{"a{hex:2}b{hex:31}", 35, len("a") + 2},      // 124 behind it, and never more than one group
	{"{hex:8}{hex:31}", 39, 4},                   // 124 behind the first: not all of it is shown
	{"{base62:250}{crc}", 256, 4},
	{"!#$%&'*+-.^_`|~{hex:32}", 47, 15 + 4},
}

func TestParseFormat(t *testing.T) {
	for _, tt := range goodFormats {
		f, err := ParseFormat(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		if f.String() != tt.pattern {
			t.Errorf("%s: String is %s", tt.pattern, f)
		}
		secret, prefix, err := f.Generate(rand.Reader)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
		}
		if len(secret) != tt.size || len(prefix) != tt.prefix || !strings.HasPrefix(secret, prefix) {
			t.Errorf("%s: made %q (%d characters), prefix %q (%d); want %d and %d",
				tt.pattern, secret, len(secret), prefix, len(prefix), tt.size, tt.prefix)
		}
		if !f.Match(secret) {
			t.Errorf("%s: doesn't match its own %q", tt.pattern, secret)
		}
	}
}

func TestParseFormatRefuses(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                              "needs 128: use {hex:32}",
		"secret":                        "has 0 bits of randomness",
		"{hex:31}":                      "has 124 bits",
		"{base62:21}":                   "has 125 bits",
		"{hex:32}{crc}x":                "put it at the end",
		"{crc}{hex:32}":                 "put it at the end",
		"{hex:32}{crc}{crc}":            "put it at the end",
		"{hex:32":                       "a { has no }",
		"tg_{hex}":                      "no such placeholder",
		"tg_{crc:6}{hex:32}":            "no such placeholder",
		"tg_{base64:32}":                "no such placeholder",
		"tg_{HEX:32}":                   "no such placeholder",
		"tg_{}":                         "no such placeholder",
		"tg_{hex:0}":                    "a number from 1 to 256",
		"tg_{hex:-32}":                  "a number from 1 to 256",
		"tg_{hex:+32}":                  "a number from 1 to 256",
		"tg_{hex:032}":                  "a number from 1 to 256",
		"tg_{hex:}":                     "a number from 1 to 256",
		"tg_{hex:32 }":                  "a number from 1 to 256",
		"tg_{hex:99999999999999999999}": "a number from 1 to 256",
		"tg_{hex:257}":                  "a number from 1 to 256",
		"x{hex:256}":                    "256 characters at most",
		"{hex:256}{hex:256}":            "256 characters at most",
		"{hex:251}{crc}":                "256 characters at most",
		"my key {hex:32}":               "character 1: ' ' can't stand in a key",
		"{hex:32}:x":                    "character 9: ':' can't stand in a key",
		"{hex:32}}":                     "'}' can't stand in a key",
		"a,b{hex:32}":                   "',' can't stand",
		"a\"b{hex:32}":                  "can't stand",
		"a\tb{hex:32}":                  "can't stand",
		"schlüssel_{hex:32}":            "can't stand",
		strings.Repeat("x", 1<<20):      "256 characters at most",
	} {
		_, err := ParseFormat(pattern)
		switch {
		case err == nil:
			t.Errorf("%.40q was accepted", pattern)
		case !strings.Contains(err.Error(), want):
			t.Errorf("%.40q: %v; want %q in it", pattern, err, want)
		case len(err.Error()) > 600:
			t.Errorf("%.40q: an error of %d bytes", pattern, len(err.Error()))
		}
	}
}

func TestMustFormatPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	MustFormat("{hex:1}")
}

func TestZeroFormat(t *testing.T) {
	var f Format
	if f.Match("") || f.Match("tg_") || f.Claims("") {
		t.Error("the zero format matches")
	}
	if _, _, err := f.Generate(rand.Reader); err == nil {
		t.Error("the zero format made a key")
	}
}

// TestChecksum compares with the standard library's CRC and big integers.
func TestChecksum(t *testing.T) {
	for _, s := range []string{"", "a", "tg_", "123456789", strings.Repeat("ÿ", 100)} {
		got := checksum(s)
		n, ok := new(big.Int).SetString(asBigBase62(string(got[:])), 62)
		if !ok || n.Uint64() != uint64(crc32.ChecksumIEEE([]byte(s))) {
			t.Errorf("checksum(%q) = %s", s, got)
		}
	}
	if got := checksum("123456789"); string(got[:]) != "3jZRME" { // the CRC's check value, 0xcbf43926
		t.Errorf("checksum(123456789) = %s", got)
	}
}

// asBigBase62 turns our digits (0-9A-Za-z) into those of math/big (0-9a-zA-Z).
func asBigBase62(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, s)
}

// TestMatchNeedsEveryCharacter changes each character of a key in turn. A
// checksum finds them all; without one, those that leave the alphabet.
func TestMatchNeedsEveryCharacter(t *testing.T) {
	for _, tt := range goodFormats {
		f := MustFormat(tt.pattern)
		secret, _, err := f.Generate(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(secret) {
			for _, c := range []byte{0, ' ', '}', 0x80, secret[i] ^ 1} {
				other := secret[:i] + string([]byte{c}) + secret[i+1:]
				inAlphabet := c == secret[i]^1 && !strings.Contains(tt.pattern, "{crc}")
				if other != secret && !inAlphabet && f.Match(other) {
					t.Errorf("%s: %q matches, made from %q", tt.pattern, other, secret)
				}
			}
		}
		for _, other := range []string{"", secret[1:], secret[:len(secret)-1], secret + "0", " " + secret, secret + "\n", strings.ToUpper(secret) + "x"} {
			if f.Match(other) {
				t.Errorf("%s: %q matches", tt.pattern, other)
			}
		}
	}
}

// TestGenerateIsFair counts characters: a modulo without rejection would make
// the first 8 of base62 a quarter more frequent than the others.
func TestGenerateIsFair(t *testing.T) {
	f := MustFormat("{base62:250}")
	source := mathrand.NewChaCha8([32]byte{1})
	counts := map[byte]int{}
	const keys = 400
	for range keys {
		secret, _, err := f.Generate(source)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(secret) {
			counts[secret[i]]++
		}
	}
	mean := float64(keys*250) / 62
	for i := range len(base62) {
		if n := float64(counts[base62[i]]); n < 0.9*mean || n > 1.1*mean {
			t.Errorf("%q %v times, the mean is %.0f", base62[i], n, mean)
		}
	}
}

func TestGenerateWithABrokenSource(t *testing.T) {
	f := MustFormat(DefaultFormat)
	broken := errors.New("no entropy")
	for name, source := range map[string]io.Reader{
		"error":    iotest.ErrReader(broken),
		"short":    bytes.NewReader([]byte{1, 2, 3}),
		"stuck":    stuck(0xff),
		"one byte": iotest.OneByteReader(rand.Reader),
	} {
		secret, prefix, err := f.Generate(source)
		if works := name == "one byte"; works != (err == nil) {
			t.Errorf("%s: error %v", name, err)
		} else if !works && (secret != "" || prefix != "") {
			t.Errorf("%s: a key beside the error", name)
		}
		if name == "error" && !errors.Is(err, broken) {
			t.Errorf("the source's error is lost: %v", err)
		}
	}
}

type stuck byte

func (s stuck) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s)
	}
	return len(p), nil
}

func TestClaims(t *testing.T) {
	if f := MustFormat(DefaultFormat); !f.Claims("tg_nonsense") || f.Claims("minds_x") || f.Claims("tg") {
		t.Error("the default format claims by tg_")
	}
	if f := MustFormat("{base62:8}.{base62:32}"); f.Claims("") || f.Claims("abcdefgh.") {
		t.Error("a format that begins with random characters claims")
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	for _, tt := range goodFormats {
		f := MustFormat(tt.pattern)
		secret, _, err := f.Generate(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { f.Match(secret) }); n != 0 {
			t.Errorf("%s: %v allocations", tt.pattern, n)
		}
	}
}

// TestFormatProperties: whatever format is accepted keeps its promises.
func TestFormatProperties(t *testing.T) {
	pieces := rapid.SampledFrom([]string{"{hex:8}", "{hex:32}", "{base62:3}", "{base62:22}", "{base62:40}", "tg_", ".", "-", "0"})
	rapid.Check(t, func(t *rapid.T) {
		pattern := strings.Join(rapid.SliceOfN(pieces, 1, 6).Draw(t, "pieces"), "")
		if rapid.Bool().Draw(t, "checksum") {
			pattern += "{crc}"
		}
		f, err := ParseFormat(pattern)
		if err != nil {
			return
		}
		secret, prefix, err := f.Generate(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if !f.Match(secret) || len(secret) > MaxFormatSize || !strings.HasPrefix(secret, prefix) {
			t.Fatalf("%s made %q with prefix %q", pattern, secret, prefix)
		}
		if bits := hiddenBits(f); bits < hiddenAlways {
			t.Fatalf("%s shows %q: %v bits are hidden", pattern, prefix, bits)
		}
	})
}

// hiddenBits counts the randomness of what isn't shown, character by character.
func hiddenBits(f Format) float64 {
	at, bits := 0, 0.0
	for _, p := range f.parts {
		for range p.size {
			if at >= f.shown && p.set != nil {
				bits += p.set.bits
			}
			at++
		}
	}
	return bits
}

// FuzzFormat: a pattern is refused or keeps its promises, and only a form of
// its own matches.
func FuzzFormat(f *testing.F) {
	for _, tt := range goodFormats {
		f.Add(tt.pattern, "tg_00000000_00000000000000000000000000000000000000")
	}
	f.Add("{hex:32}{crc}", strings.Repeat("0", 38))
	f.Add("{{hex:32}}", "")
	f.Add("{hex:32", "{")
	f.Fuzz(func(t *testing.T, pattern, presented string) {
		format, err := ParseFormat(pattern)
		if err != nil {
			if format.Match(presented) {
				t.Error("a refused format matches")
			}
			return
		}
		secret, prefix, err := format.Generate(rand.Reader)
		if err != nil || !format.Match(secret) || len(prefix) >= len(secret) {
			t.Errorf("%q made %q with prefix %q, error %v", pattern, secret, prefix, err)
		}
		if format.Match(presented) && len(presented) != len(secret) {
			t.Errorf("%q matches %q, and makes %q", pattern, presented, secret)
		}
		for _, c := range []byte(secret) {
			if !isTokenByte(c) {
				t.Errorf("%q made %q", pattern, secret)
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	f := MustFormat(DefaultFormat)
	secret, _, err := f.Generate(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		f.Match(secret)
	}
}
