package events

import (
	"errors"
	"slices"
	"strings"
)

// permissions are the subjects that a user of NATS may publish to and subscribe
// to. All others are denied.
type permissions struct {
	Publish   []string
	Subscribe []string
}

// The names that streams of Tollgate have in JetStream.
const (
	keysStream    = "KV_" + keysBucket
	configStream  = "KV_" + configBucket
	objectsStream = "KV_" + objectsBucket
	onceStream    = "KV_TOLLGATE_ONCE"
	auditStream   = "TOLLGATE_AUDIT"
)

const jsAPI = "$JS.API."

// replicaPermissions are what a replica needs that makes no changes: it reads
// everything, says that it is there, publishes usage events, talks to the other
// replicas, keeps what it learned for estimates, and writes down whose objects are
// and what there is of counted resources. It can't write a key, the catalog or any
// other document; nor make, change, empty or delete a stream.
//
// Its consumers it makes itself, under names that nobody guesses. That right has
// no bounds but the stream's name, so people's durables are safe from it only
// because nobody can guess theirs either, see Consumers.
//
// There is no right to DIRECT.GET: its answer is the message as it was stored, and
// NATS lets who asks choose the subject that the answer goes to, whatever that
// user may publish to. A replica could write any record so, through its own
// heartbeat. What MSG.GET answers is wrapped, and no record.
//
// replica and admin are the public keys of the two users.
func replicaPermissions(replica, admin string) permissions {
	p := permissions{
		Publish: []string{
			jsAPI + "INFO",
			"$KV." + keysBucket + "." + heartbeatPrefix + "*",
			"$KV." + configBucket + "." + learnedName,
			"$KV." + objectsBucket + "." + objectPrefix + "*",
			"$KV." + objectsBucket + "." + resourcePrefix + ">",
			"tollgate.usage.>",
		},
	}
	for _, stream := range []string{keysStream, configStream, objectsStream, UsageStream} {
		p.Publish = append(p.Publish, jsAPI+"STREAM.INFO."+stream, jsAPI+"STREAM.MSG.GET."+stream)
	}
	for _, stream := range []string{keysStream, UsageStream} {
		p.Publish = append(p.Publish, ownConsumers(stream)...)
	}
	return p.with(replica, admin)
}

// adminPermissions are what whoever makes changes needs: to write everything, to
// make the streams and change the configuration of buckets, and everything about
// consumers. It can't empty or delete a stream, nor delete a message: Tollgate
// never does.
//
// They are few, because in a JWT they must fit into one line of NATS' protocol, 4
// KiB by default.
func adminPermissions(admin, replica string) permissions {
	p := permissions{
		Publish: []string{
			jsAPI + "INFO",
			"$KV." + keysBucket + ".>", "$KV." + configBucket + ".>", "$KV." + objectsBucket + ".>", "$KV.TOLLGATE_ONCE.>",
			"tollgate.usage.>", "tollgate.audit.>",
			jsAPI + "DIRECT.GET." + keysStream, // the list of replicas, and pages of keys
		},
	}
	for _, stream := range []string{keysStream, configStream, objectsStream, onceStream, UsageStream, auditStream} {
		for _, verb := range []string{"CREATE", "INFO", "MSG.GET"} {
			p.Publish = append(p.Publish, jsAPI+"STREAM."+verb+"."+stream)
		}
		if strings.HasPrefix(stream, "KV_") {
			p.Publish = append(p.Publish, jsAPI+"STREAM.UPDATE."+stream)
		}
	}
	for _, stream := range []string{keysStream, configStream, objectsStream, UsageStream, auditStream} {
		p.Publish = append(p.Publish, jsAPI+"CONSUMER.*."+stream+".>", jsAPI+"CONSUMER.MSG.NEXT."+stream+".*")
	}
	p.Publish = append(p.Publish, jsAPI+"CONSUMER.NAMES."+UsageStream)
	return p.with(admin, replica)
}

// ownConsumers are the requests for consumers of a stream: to make one, pull from
// it, and delete it.
func ownConsumers(stream string) []string {
	return []string{
		jsAPI + "CONSUMER.CREATE." + stream + ".>",
		jsAPI + "CONSUMER.MSG.NEXT." + stream + ".*",
		jsAPI + "CONSUMER.DELETE." + stream + ".*",
	}
}

// with adds what all of Tollgate's users need: to get answers, to hear what
// replicas tell each other, and to answer. Answers go to these inboxes only. With
// the right to answer whoever asks, a replica could be made to write its answer
// anywhere.
func (p permissions) with(own, other string) permissions {
	const replicas = "tollgate.replica.>"
	p.Publish = append(p.Publish, replicas, inbox(own)+".>", inbox(other)+".>")
	p.Subscribe = []string{replicas, inbox(own) + ".>"}
	slices.Sort(p.Publish)
	return p
}

// learnedName is the document of what replicas learned for estimates, the one that
// they write.
const learnedName = "learned-ratios"

// errAccountSeed says what is wanted of the seed that signs users.
var errAccountSeed = errors.New("want the seed of an account or of one of its signing keys, which begins with SA")
