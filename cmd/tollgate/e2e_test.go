//go:build linux

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestE2E tries the product as a user would: the real binary, built with the race
// detector, a real Envoy, the embedded NATS and the SDKs that callers use, through
// the command line and the network alone. (On Linux only: it looks into /proc for
// what was left running, and for memory.)
//
// It needs what `make tools sdks` installs. Without that it is skipped, unless
// TOLLGATE_TEST_REQUIRE=1 says that it must not be.
func TestE2E(t *testing.T) { //nolint:tparallel // nothing of the package is to run beside those that time faults
	if testing.Short() {
		t.Skip("end to end: not with -short")
	}
	b := build(t)
	// One after the other, with the machine to themselves: these count what fails while
	// parts break or requests go on at full speed, and measure memory and estimates.
	for _, p := range []point{
		{"models come and go under traffic", testLiveConfiguration},
		{"hang-ups are estimated within 10 %, also after a restart", testEstimates},
		{"many slow streams and a big answer take no more memory with time", testLoad},
		{"two replicas are restarted under load, and nothing fails", testRolling},
		{"whatever part breaks, no revoked key passes and no event is lost", testFaults},
		{"another store under running replicas", testReplaced},
		{"from the embedded store to a cluster under load, and nothing fails", testMove},
		{"6 nobody without a key can make it hold memory", testMemory},
	} {
		t.Run(p.name, func(t *testing.T) { p.test(t, b) })
	}
	// Then side by side, as many as there are cores (-parallel): these wait more than
	// they compute, and each has processes, ports and directories of its own.
	for _, p := range []point{
		{"1 one command starts everything, and Ctrl-C leaves nothing running", testLifecycle},
		{"1 one clear message each for what can't start", testRefusesToStart},
		{"a replica that is started before its NATS waits for it", testEarly},
		{"1 make run prints a curl line that works", testQuickstart},
		{"2 to 5 through one gate", testGate},
		{"4 kill -9 under load: every admission has its event, none twice", testKill},
		{"however a request ends, its event says how", testEndings},
		{"an Envoy of yours, and the credentials of upstreams", testOwnEnvoy},
		{"gate only, for Envoys of others", testGateOnly},
		{"a WebSocket is accounted by time", testWebSocket},
		{"a stream is exact, whatever the caller says of its usage", testStreams},
		{"who hangs up at once gets back what was held", testLostRequests},
		{"keys as people manage them", testKeyManagement},
		{"wrong keys, observe, explain and audit", testTold},
		{"dialects and hosts", testDialects},
		{"forms and bodies of services reach them as they were", testServices},
		{"examples", testExamples},
		{"costs are exact, and add up", testMoney},
		{"budgets and credit are spent, and no more", testBudgets},
		{"two replicas spend one budget", testSharedBudgets},
		{"what tenants make in one account is each one's own, and counted", testObjects},
		{"a lost store comes back from its backup", testBackup},
		{"what could be read in two ways is refused, or read as upstreams do", testHostile},
		{"what SDKs make of each refusal", testConformance},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.test(t, b)
		})
	}
}

// point is one of TestE2E's.
type point struct {
	name string
	test func(*testing.T, *bench)
}

// bench is what the tests work with: binaries and clients.
type bench struct {
	tollgate, quickstart string
	envoy                string
	python, pythonPath   string
}

func build(t *testing.T) *bench {
	t.Helper()
	b := &bench{python: os.Getenv("PYTHON"), pythonPath: root(t, ".tools", "py")}
	if b.python == "" {
		b.python = "python3"
	}
	if _, err := os.Stat(filepath.Join(b.pythonPath, "openai")); err != nil {
		unavailable(t, "the Python SDKs are missing; run `make sdks`")
	}
	b.envoy = findEnvoy(t)
	dir := t.TempDir()
	b.tollgate, b.quickstart = filepath.Join(dir, "tollgate"), filepath.Join(dir, "quickstart")
	// Both at once; without what only a debugger reads, as go test builds its own.
	if msg, err := exec.Command("go", "build", "-race", "-ldflags", "-s -w", "-o", dir, ".", "../../examples/quickstart").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	return b
}

func findEnvoy(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("TOLLGATE_ENVOY"); path != "" {
		return path
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path
	}
	path := root(t, ".tools", "envoy", "envoy", "_bin", "envoy")
	if _, err := os.Stat(path); err != nil {
		unavailable(t, "there is no Envoy; run `make tools`")
	}
	return path
}

// unavailable skips the test, or fails it where it must not be skipped.
func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("TOLLGATE_TEST_REQUIRE") == "1" {
		t.Fatal(why)
	}
	t.Skip("SKIPPED, end to end: " + why)
}

// root is a path from the project's directory.
func root(t *testing.T, elements ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(append([]string{"..", ".."}, elements...)...))
	if err != nil {
		t.Fatal(err)
	}
	return path
}
