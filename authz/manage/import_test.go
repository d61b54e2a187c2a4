package manage_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

const importPath = "/api/v1/api-keys/import?workspace=demo"

func digest(secret string) string { return key.DigestOf(secret).String() }

// imports sends keys, each the JSON of one, and returns the report.
func (s *service) imports(secret, path string, keys ...string) manage.ImportReport {
	s.t.Helper()
	var report manage.ImportReport
	r := s.must(200, "POST", path, secret, `{"keys":[`+strings.Join(keys, ",")+`]}`)
	if err := json.Unmarshal([]byte(r.body), &report); err != nil || len(report.Rows) != len(keys) {
		s.t.Fatalf("an import answered %s (%v)", r.body, err)
	}
	return report
}

func row(secret, fields string) string { return `{"sha256":"` + digest(secret) + `"` + fields + `}` }

func statuses(r manage.ImportReport) string {
	var b strings.Builder
	for _, row := range r.Rows {
		b.WriteString(row.Status + " ")
	}
	return strings.TrimSpace(b.String())
}

func TestImportOne(t *testing.T) {
	s := serve(t)
	const secret = "legacy-key-of-a-customer-0001"
	body := row(secret, `,"name":"old","prefix":"legacy-k","actions":["infer","manage"]`)
	r := s.must(201, "POST", all, operator, body)
	if !strings.Contains(r.body, `"prefix":"legacy-k"`) || strings.Contains(r.body, `"key"`) || strings.Contains(r.body, digest(secret)) {
		t.Errorf("answered %s", r.body)
	}
	if !s.opens(secret) {
		t.Error("an imported key does not open")
	}
	var m made
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatal(err)
	}
	if r = s.must(409, "POST", all, operator, body); !strings.Contains(r.body, m.ID) || r.header.Get("Location") != "/api/v1/api-keys/"+m.ID {
		t.Errorf("again: %s", r.body)
	}
	// Whose it is, nobody else is told.
	if r = s.must(409, "POST", "/api/v1/api-keys?workspace=other", operator, row(secret, "")); strings.Contains(r.body, m.ID) || strings.Contains(r.body, "demo") {
		t.Errorf("in another workspace: %s", r.body)
	}
	for _, taken := range []string{secret, operator, s.create(operator, `{"workspace":"other"}`).Key} {
		s.must(409, "POST", all, operator, row(taken, `,"name":"mine"`))
	}
	s.rotate(secret, m.ID, "")
	if s.opens(secret) {
		t.Error("after a rotation the imported secret still opens")
	}
	s.must(204, "DELETE", one(m.ID), operator, "")
	if r = s.must(409, "POST", all, operator, body); strings.Contains(r.body, "came before") {
		t.Errorf("a revoked key: %s", r.body)
	}
	for body, says := range map[string]string{
		`{"sha256":"abc"}`: "sha256: must be",
		`{"sha256":5}`:     "sha256: must be",
		`{"prefix":"abc"}`: "prefix: is of an imported key",
		row("x", `,"prefix":"`+strings.Repeat("x", 17)+`"`): "prefix: must be",
		row("x", `,"prefix":"a\u0007"`):                     "prefix: must be",
	} {
		if r := s.must(400, "POST", all, operator, body); !strings.Contains(r.body, says) {
			t.Errorf("%s: %s", body, r.body)
		}
	}
	member := s.create(operator, `{"workspace":"demo","user":"max"}`)
	s.must(403, "POST", "/api/v1/api-keys", member.Key, row("y", ""))
}

// TestImportIsAllOrNothing: a row that can't be imported keeps the others out, and
// each says what is wrong with it; the same import again changes nothing.
func TestImportIsAllOrNothing(t *testing.T) {
	s := serve(t)
	there := s.create(operator, `{"workspace":"other"}`)
	good := []string{row("a", `,"name":"a","labels":{"x":"y"},"expiresAt":"2099-01-01T00:00:00Z"`), row("b", `,"models":["meta/*"],"budget":{"period":"day","amount":"1"}`)}
	bad := []string{
		row("a", ""), row(there.Key, ""), row("c", `,"kind":"personal"`), `{"name":"no digest"}`, row("d", `,"workspace":"other"`),
		row("e", `,"name":"`+strings.Repeat("x", 101)+`"`), row("f", `,"user":"nobody"`),
	}
	r := s.imports(operator, importPath, append(good[:2:2], bad...)...)
	if got := statuses(r); got != "new new conflict conflict invalid invalid invalid invalid invalid" || r.Imported != 0 || r.Refused != 7 {
		t.Errorf("rows %s, %+v", got, r)
	}
	for i, says := range []string{2: "keys[0] too", 3: "somebody else", 4: "user:", 5: "sha256: is missing", 6: "workspace:", 7: "name: has 101", 8: "user:"} {
		if says != "" && !strings.Contains(*r.Rows[i].Message, says) {
			t.Errorf("row %d: %s", i, *r.Rows[i].Message)
		}
	}
	if s.opens("a") || s.opens("b") {
		t.Fatal("something was imported")
	}
	if r = s.imports(operator, importPath+"&dryRun=true", good...); statuses(r) != "new new" || r.Imported != 2 || s.opens("a") {
		t.Errorf("a dry run: %+v", r)
	}
	if r = s.imports(operator, importPath, good...); statuses(r) != "imported imported" || r.Imported != 2 || !s.opens2("a") {
		t.Errorf("an import: %+v", r)
	}
	if again := s.imports(operator, importPath, good...); statuses(again) != "unchanged unchanged" || again.Imported+again.Refused != 0 || *again.Rows[0].ID != *r.Rows[0].ID {
		t.Errorf("again: %+v", again)
	}
	if r = s.imports(operator, importPath, row("a", `,"name":"other"`), row("g", "")); statuses(r) != "conflict new" || s.opens("g") {
		t.Errorf("with a difference: %+v", r)
	}
	s.must(400, "POST", importPath, operator, `{"keys":[]}`)
	s.must(400, "POST", importPath, operator, ``)
	s.must(400, "POST", importPath, operator, `{"keys":[`+strings.TrimSuffix(strings.Repeat("{},", 1001), ",")+`]}`)
	s.must(400, "POST", importPath, operator, `{"keys":[{"sha256":"x"}]}`)
	s.must(400, "POST", importPath+"&dryRun=perhaps", operator, `{"keys":[{}]}`)
}

// opens2 reports whether a secret without the action manage opens anything.
func (s *service) opens2(secret string) bool {
	s.t.Helper()
	return s.do("GET", "/api/v1/api-keys", secret, "").status != 401
}

// TestImportsAtTheSameTime: a digest becomes one key, also when an import was
// given up between its claim and its record.
func TestImportsAtTheSameTime(t *testing.T) {
	s := serve(t)
	// The first write fails. Then two wait for each other, so that neither import
	// sees what the other one stored.
	var writes atomic.Int32
	var both sync.WaitGroup
	both.Add(2)
	s.store.Before = func(op string) error {
		if op != "put" {
			return nil
		}
		switch writes.Add(1) {
		case 1:
			return key.ErrUnavailable
		case 2, 3:
			both.Done()
			both.Wait()
		}
		return nil
	}
	if r := s.imports(operator, importPath, row("a", ""), row("b", "")); statuses(r) != "failed new" || r.Refused != 1 {
		t.Errorf("without a store: %+v", r)
	}
	var wg sync.WaitGroup
	reports := make([]manage.ImportReport, 8)
	for i := range reports {
		wg.Go(func() { reports[i] = s.imports(operator, importPath, row("a", ""), row("b", "")) })
	}
	wg.Wait()
	ids := map[string]bool{}
	imported := 0
	for _, r := range reports {
		imported += r.Imported
		for _, row := range r.Rows {
			if row.ID == nil {
				t.Fatalf("%+v", row)
			}
			ids[*row.ID] = true
		}
	}
	if imported != 2 || len(ids) != 2 {
		t.Errorf("%d imported, ids %v", imported, ids)
	}
}

func TestIdempotencyKey(t *testing.T) {
	s := serve(t)
	const body, word = `{"name":"x"}`, "Idempotency-Key: order-17"
	r := s.must(201, "POST", all, operator, body, word)
	var m made
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatal(err)
	}
	r = s.must(409, "POST", all, operator, body, word)
	var e manage.Error
	if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.ID != m.ID || strings.Contains(r.body, m.Key) || r.header.Get("Location") == "" {
		t.Errorf("again: %s", r.body)
	}
	s.must(422, "POST", all, operator, `{"name":"y"}`, word)
	s.must(201, "POST", "/api/v1/api-keys?workspace=other", operator, body, word)
	manager := s.create(operator, `{"workspace":"demo"}`)
	s.must(201, "POST", all, manager.Key, body, word) // somebody else's word
	for _, bad := range []string{"", strings.Repeat("x", 256), "ö"} {
		s.must(400, "POST", all, operator, body, "Idempotency-Key: "+bad)
	}
	s.must(400, "POST", "/api/v1/api-keys/"+m.ID+"/rotate?workspace=demo", operator, "", word)
	s.must(400, "POST", all, operator, `{"name":5}`, "Idempotency-Key: refused")
	s.must(201, "POST", all, operator, `{"name":"5"}`, "Idempotency-Key: refused") // what was refused claimed nothing
}

// TestIdempotencyKeyMakesOne: requests at the same time, some of which fail on the
// way, make one key.
func TestIdempotencyKeyMakesOne(t *testing.T) {
	s := serve(t)
	var mu sync.Mutex
	fail := 3
	s.store.Before = func(op string) error {
		mu.Lock()
		defer mu.Unlock()
		if op == "put" && fail > 0 {
			fail--
			return fmt.Errorf("%w: on the way", key.ErrUnavailable)
		}
		return nil
	}
	var wg sync.WaitGroup
	replies := make([]reply, 12)
	for i := range replies {
		wg.Go(func() { replies[i] = s.do("POST", all, operator, "{}", "Idempotency-Key: once") })
	}
	wg.Wait()
	n := map[int]int{}
	ids := map[string]bool{}
	for _, r := range replies {
		n[r.status]++
		var m made
		if r.status != 503 && json.Unmarshal([]byte(r.body), &m) == nil {
			ids[m.ID] = true
		}
	}
	list := s.must(200, "GET", all, operator, "")
	if n[201] != 1 || n[503] != 3 || n[409] != 8 || len(ids) != 1 || strings.Count(list.body, `"id"`) != 1 {
		t.Errorf("answers %v, ids %v, keys %s", n, ids, list.body)
	}
}
