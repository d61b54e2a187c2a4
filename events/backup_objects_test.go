package events

import (
	"testing"
	"time"

	"tollgate/authz"
)

// fillObjects makes an object and a count, which changed since.
func (d *deployment) fillObjects() {
	d.t.Helper()
	mustBind(d.t, d.objects, bindingOf(ours, time.Now().UTC().Truncate(time.Second)), true)
	for _, name := range []string{"1", "2"} {
		if err := d.objects.settle(d.t.Context(), aMind, name, 1); err != nil {
			d.t.Fatal(err)
		}
	}
}

// What was bound and counted is as it was, for as long as it would have been, and
// what the store has already stays.
func TestRestoreObjects(t *testing.T) {
	d := newDeployment(t)
	d.fill(0)
	file := d.backup(false)
	to := newDeployment(t)
	mustBind(t, to.objects, bindingOf(theirs, time.Now()), true)
	done := to.restore(file, RestoreConfig{Merge: true})
	if done.Kept != 1 {
		t.Errorf("%+v", done)
	}
	if b := whose(t, to.objects); b.Tenant != theirs {
		t.Errorf("what was there is %+v now", b)
	}
	if tally := mindCount(t, to.objects); tally.Count != 2 || tally.Change("2", 1) {
		t.Errorf("counted: %+v", tally)
	}

	to = newDeployment(t)
	to.restore(file, RestoreConfig{})
	if b := whose(t, to.objects); b != whose(t, d.objects) {
		t.Errorf("%+v, want %+v", b, whose(t, d.objects))
	}
	stream, err := to.objects.bucket.js.Stream(t.Context(), objectsStream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), to.objects.bucket.subject(objectName(aTask)))
	if err != nil || m.Header.Get("Nats-TTL") == "" {
		t.Errorf("it is kept for ever: %v, %v", m, err)
	}
}

func TestBackupRefusesForeignObjects(t *testing.T) {
	b := bindingOf(ours, objectsStart)
	value, err := encodeObject(aTask, &b)
	if err != nil {
		t.Fatal(err)
	}
	other := objectName(authz.Object{Dialect: "minimax", Kind: "task", ID: "2"})
	for name, value := range map[string]string{
		objectName(aTask): `{"v":2}`, other: string(value), resourceName(aMind): `{"v":1,"count":-1}`, "x.y": `{"v":1}`,
	} {
		e := backupEntry{In: sectionObjects, Name: name, At: 1, Value: []byte(value)}
		if e.check() == nil {
			t.Errorf("%s with %s is taken", name, value)
		}
	}
}
