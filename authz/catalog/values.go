package catalog

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Bounds of single values.
const (
	maxID        = 128       // bytes of a user's id
	maxText      = 256       // bytes of an external id, a label's value, a name, a pattern
	maxLabelName = 64        // bytes
	maxDigits    = 18        // of a decimal that a person writes
	maxWeight    = 10_000    // of an upstream
	maxLimit     = 1 << 50   // per minute
	minBody      = 1 << 10   // bytes
	maxBody      = 256 << 20 // bytes
)

// span is what a duration must lie in.
type span struct {
	min, max time.Duration
	want     string // in words, with examples
}

var (
	maxDuration    = span{time.Second, 24 * time.Hour, "from 1s to 24h, such as 90s or 1h30m"}
	healthInterval = span{time.Second, 5 * time.Minute, "from 1s to 5m, such as 10s"}
	healthTimeout  = span{100 * time.Millisecond, 5 * time.Second, "from 100ms to 5s, such as 500ms"}
)

var (
	slugPattern     = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	userPattern     = regexp.MustCompile(`^[A-Za-z0-9._@:+=|-]+$`)
	modelPattern    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$`)
	resourcePattern = regexp.MustCompile(`^[a-z][A-Za-z0-9]{0,62}$`)
	headerPattern   = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")
	envPattern      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	decimalPattern  = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	sizePattern     = regexp.MustCompile(`^([1-9][0-9]{0,9})(B|KiB|MiB|GiB)$`)
)

func checkSlug(s string) error {
	if !slugPattern.MatchString(s) {
		return errors.New("an id here is 1 to 63 of a-z, 0-9 and -")
	}
	return nil
}

func checkUserID(s string) error {
	if len(s) > maxID || !userPattern.MatchString(s) {
		return fmt.Errorf("a user's id is 1 to %d letters, digits and . _ @ : + = | -", maxID)
	}
	return nil
}

func checkModelID(s string) error {
	if len(s) > maxText || !modelPattern.MatchString(s) {
		return fmt.Errorf("a model's id is 1 to %d letters, digits and . _ : / @ + -, the first a letter or digit", maxText)
	}
	return nil
}

// checkPattern checks what key.MatchModel takes: an id, prefix/* or *.
func checkPattern(s string) error {
	if s == "*" || checkModelID(s) == nil {
		return nil
	}
	if prefix, ok := strings.CutSuffix(s, "/*"); ok && checkModelID(prefix) == nil {
		return nil
	}
	return errors.New(`want a model's id, a prefix such as "meta-llama/*", or "*"`)
}

// checkText checks text that ends up in headers and events.
func checkText(s string) error {
	if s == "" || len(s) > maxText {
		return fmt.Errorf("want 1 to %d bytes", maxText)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return errors.New("control characters don't belong here")
		}
	}
	return nil
}

// checkASCII is checkText for what an HTTP header may hold.
func checkASCII(s string) error {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return errors.New("want printable ASCII without spaces")
		}
	}
	return checkText(s)
}

func checkDecimal(s string) error {
	if !decimalPattern.MatchString(s) {
		return errors.New(`want a decimal that isn't negative, such as "0.15"`)
	}
	counted := strings.TrimPrefix(s, "0.") // that zero is no digit of the amount's
	if digits := len(counted) - strings.Count(counted, "."); digits > maxDigits {
		return fmt.Errorf("%d digits are more than can be counted exactly: use %d at most", digits, maxDigits)
	}
	return nil
}

func (s span) parse(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < s.min || d > s.max {
		return 0, errors.New("want a duration " + s.want)
	}
	return d, nil
}

// check checks what parse reads.
func (s span) check(text string) error {
	_, err := s.parse(text)
	return err
}

func parseSize(s string) (int64, error) {
	want := fmt.Errorf("want a size from %dKiB to %dMiB, such as 16MiB", minBody>>10, maxBody>>20)
	m := sizePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, want
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, want
	}
	n <<= map[string]int{"B": 0, "KiB": 10, "MiB": 20, "GiB": 30}[m[2]] // 10 digits: no overflow
	if n < minBody || n > maxBody {
		return 0, want
	}
	return n, nil
}

// parseURL reads an upstream's URL. Errors don't repeat it, because a secret
// may have been put there by mistake.
func parseURL(s string) (*Upstream, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("not a URL: want one such as http://127.0.0.1:9100 or https://models.internal/api")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("want a URL that begins with http:// or https://")
	case u.User != nil:
		return nil, errors.New("a URL must not hold a user or password: use credential")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		return nil, errors.New("the URL of an upstream has no query and no fragment")
	case u.Opaque != "" || !validHost(u.Hostname()):
		return nil, errors.New("the URL has no valid host name or address")
	case u.RawPath != "" || strings.ContainsAny(u.Path, "\\ %") || strings.Contains(u.Path+"/", "/../") || strings.Contains(u.Path, "//"):
		return nil, errors.New("the URL's path has escapes, spaces, .. or empty segments")
	}
	port := map[string]uint64{"http": 80, "https": 443}[u.Scheme]
	if u.Port() != "" {
		if port, err = strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
			return nil, fmt.Errorf("the URL's port must be from 1 to %d", math.MaxUint16)
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return nil, errors.New("the URL's host ends in a colon without a port")
	}
	path := strings.TrimRight(u.Path, "/")
	if path != "" && checkASCII(path) != nil {
		return nil, errors.New("the URL's path is too long or not printable ASCII")
	}
	return &Upstream{
		URL: u.Scheme + "://" + u.Host + path, Scheme: u.Scheme, Host: u.Hostname(), Port: uint16(port), Path: path,
	}, nil
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?$`)

func validHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Zone() == ""
	}
	return hostPattern.MatchString(s)
}

// checkURL is parseURL for what a catalog may say: a URL or env:NAME.
func checkURL(s string) error {
	if name, ok := strings.CutPrefix(s, envPrefix); ok {
		return checkEnv(name)
	}
	_, err := parseURL(s)
	return err
}

func checkEnv(name string) error {
	if !envPattern.MatchString(name) {
		return errors.New("after env: goes the name of an environment variable: letters, digits and _")
	}
	return nil
}

// checkPath checks the path of a GET.
func checkPath(s string) error {
	if !strings.HasPrefix(s, "/") || strings.Contains(s, "//") || strings.ContainsAny(s, `%?#\"`) || s != "/" && strings.HasSuffix(s, "/") {
		return errors.New("want a path such as /health, without a query or escapes")
	}
	return checkASCII(s)
}

// checkFile checks the path of a file, of which nothing is known here.
func checkFile(s string) error {
	if strings.HasPrefix(s, filePrefix) || strings.HasPrefix(s, envPrefix) {
		return errors.New("want the path of a file, without file: or env: before it")
	}
	return checkText(s)
}

// checkFrom checks where a credential comes from. It doesn't repeat the text,
// which may be a secret that was put there by mistake.
func checkFrom(s string) error {
	if name, ok := strings.CutPrefix(s, envPrefix); ok {
		return checkEnv(name)
	}
	if path, ok := strings.CutPrefix(s, filePrefix); ok && path != "" && !strings.ContainsRune(path, 0) {
		return nil
	}
	return errors.New("want env:NAME or file:PATH, which say where the secret is; the secret itself doesn't belong in a catalog")
}

func checkHeader(s string) error {
	if !headerPattern.MatchString(s) {
		return errors.New("not the name of an HTTP header: want 1 to 64 letters, digits and -")
	}
	return nil
}
