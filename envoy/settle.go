package envoy

import (
	"context"
	"log/slog"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tollgate/authz"
)

// A Settler closes the admission that a token stands for. authz.Settler is one.
type Settler interface {
	// Settle returns nil once the settlement is recorded, or was before (Envoy
	// repeats a call that it has lost the answer of), and for a token that
	// doesn't verify, for which there is nothing to do. After an error Envoy
	// comes again, for as long as SettleTimeout. seen is what a stranger could
	// have written; token is what makes it one of ours.
	Settle(ctx context.Context, now time.Time, token string, seen authz.Observation) error
}

// What a settlement consists of: one descriptor of these entries.
const (
	settleDomain = "tollgate"
	descToken    = "adm"
	descSeen     = "seen"

	// seenFormat is what Envoy itself knows of the stream. It is one value with
	// text in front because an empty value would drop the whole descriptor.
	seenFormat = "s=%RESPONSE_CODE% f=%RESPONSE_FLAGS% d=%DURATION% t=%RESPONSE_DURATION% u=%UPSTREAM_HOST% c=%RESPONSE_CODE_DETAILS%"

	// tapNamespace is the dynamic metadata that lua/tap.lua writes. It is the
	// one place where token usage comes from; whoever replaces the tap writes
	// the same keys.
	tapNamespace = "tollgate"
)

// tapKeys are the tap's, told as descriptor entries of the same names.
var tapKeys = []string{"in", "out", "cached", "created", "reasoning", "events", "bytes", "complete", "reported", tapTold}

// tapTold is what the answer stated of the members that the Check named, as
// readTold reads it.
const tapTold = "told"

// Bounds of what is told: those that the tap keeps to.
const (
	maxTold      = 8
	maxToldValue = 256
)

// maxToken is far above what a token has, and keeps a stranger's out.
const maxToken = 64 << 10

// settleServer takes Envoy's calls for streams that are done. It is a rate
// limit service by its protocol only: what it answers is never enforced.
type settleServer struct {
	settler Settler
	stats   *Stats
	log     *slog.Logger
}

// ShouldRateLimit implements rlsv3.RateLimitServiceServer. Its only error is
// Unavailable, upon which Envoy repeats the call.
func (s *settleServer) ShouldRateLimit(ctx context.Context, in *rlsv3.RateLimitRequest) (out *rlsv3.RateLimitResponse, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.stats.SettlePanics.Add(1)
			s.log.Error("a settlement panicked", "stack", string(debug.Stack()))
			out, err = nil, status.Error(codes.Unavailable, "the settlement failed")
		}
	}()
	ok := &rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK}
	token, seen, valid := readSettlement(in)
	if !valid {
		s.stats.MalformedSettlements.Add(1)
		return ok, nil
	}
	if err := s.settler.Settle(ctx, time.Now(), token, seen); err != nil {
		s.stats.SettlementsDeferred.Add(1)
		s.log.Warn("a settlement could not be recorded; Envoy will come again", "err", err)
		return nil, status.Error(codes.Unavailable, "the settlement could not be recorded")
	}
	s.stats.Settled.Add(1)
	return ok, nil
}

// readSettlement reads the one descriptor that carries a token. Entries that it
// doesn't know are passed over, numbers that are none count as not told.
func readSettlement(in *rlsv3.RateLimitRequest) (token string, seen authz.Observation, ok bool) {
	if in.GetDomain() != settleDomain {
		return "", seen, false
	}
	for _, d := range in.GetDescriptors() {
		token, seen = "", authz.Observation{Untold: true, Unwatched: true}
		asked := false // to watch the answer
		for _, e := range d.GetEntries() {
			readEntry(e.GetKey(), e.GetValue(), &token, &seen)
			asked = asked || e.GetKey() == "complete"
		}
		if token != "" && len(token) <= maxToken {
			if !seen.Reported && !seen.Partly {
				seen.Tokens = authz.Tokens{}
			}
			if asked && seen.Flags != "" {
				// Cut off before there was anything to watch.
				seen.Unwatched = false
			}
			return token, seen, true
		}
	}
	return "", authz.Observation{}, false
}

func readEntry(key, value string, token *string, seen *authz.Observation) {
	switch key {
	case "events", "bytes", "complete":
		if value != "-" {
			seen.Unwatched = false
		}
	}
	switch key {
	case descToken:
		*token = value
	case descSeen:
		readSeen(value, seen)
	case "in":
		seen.Tokens.Input = count(value)
	case "out":
		seen.Tokens.Output = count(value)
	case "cached":
		seen.Tokens.CacheRead = count(value)
	case "created":
		seen.Tokens.CacheCreation = count(value)
	case "reasoning":
		seen.Tokens.Reasoning = count(value)
	case "events":
		seen.Events = count(value)
	case "bytes":
		seen.Bytes = count(value)
	case "complete":
		seen.Complete = value == "1"
	case "reported":
		seen.Reported, seen.Partly = value == "1", value == "part"
	case tapTold:
		seen.Told = readTold(value)
	}
}

// readTold reads "name=value name=value", the values percent-encoded. What can't be
// one, and all of it where the tap has no word, is left out.
func readTold(value string) []authz.Label {
	var told []authz.Label
	for field := range strings.FieldsSeq(value) {
		name, escaped, ok := strings.Cut(field, "=")
		v, err := url.PathUnescape(escaped)
		if !ok || name == "" || err != nil || len(v) > maxToldValue || !utf8.ValidString(v) {
			continue
		}
		if told = append(told, authz.Label{Name: name, Value: v}); len(told) == maxTold {
			break
		}
	}
	return told
}

// readSeen reads a value of seenFormat. "-" is Envoy's word for nothing. An Envoy
// that doesn't know formats here sends seenFormat as it is, which tells nothing.
func readSeen(value string, seen *authz.Observation) {
	if strings.Contains(value, "%RESPONSE_CODE%") {
		return
	}
	seen.Untold = false
	for field := range strings.FieldsSeq(value) {
		name, v, _ := strings.Cut(field, "=")
		if v == "-" {
			continue
		}
		switch name {
		case "s":
			if n := count(v); n < 1000 {
				seen.Status = int(n)
			}
		case "f":
			seen.Flags = v
		case "d":
			seen.Duration = millis(v)
		case "t":
			seen.FirstByte = millis(v)
		case "u":
			seen.Upstream = v
		case "c":
			seen.Details = v
		}
	}
}

// count reads a non-negative number below 2^53, and 0 for anything else.
func count(s string) int64 {
	n, err := strconv.ParseUint(s, 10, 53)
	if err != nil {
		return 0
	}
	return int64(n)
}

func millis(s string) time.Duration {
	const most = int64(1) << 40 // 34 years; times a million it still fits
	return time.Duration(min(count(s), most)) * time.Millisecond
}
