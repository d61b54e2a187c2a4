package envoy

import (
	"os"
	"strings"
	"testing"
)

// The hand-written settlement of the example says all that ours does.
func TestGateOnlyExampleTellsAll(t *testing.T) {
	text, err := os.ReadFile("../examples/gate-only/settled.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	for _, part := range append([]string{seenFormat, "domain: " + settleDomain, "key: " + checkFilter + ", path: [{key: " + metaToken + "}]"}, entries()...) {
		if !strings.Contains(config, part) {
			t.Errorf("examples/gate-only/settled.yaml lacks %s", part)
		}
	}
}

func entries() []string {
	all := make([]string, len(tapKeys))
	for i, k := range tapKeys {
		all[i] = "{descriptor_key: " + k + ", source: DYNAMIC, metadata_key: {key: " + tapNamespace + ", path: [{key: " + k + "}]}, default_value: \"-\"}"
	}
	return all
}
