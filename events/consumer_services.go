package events

import (
	"fmt"
	"strconv"
	"strings"
)

// A consumer of usage events on a NATS of the operator's is an account of its own,
// which imports from Tollgate's the three services of one durable. It must not be a
// user of Tollgate's account: NATS lets whoever asks choose the subject that the
// answer goes to, and within one account that might be a key's record. Package
// natsd does the same on the embedded server.

// consumerService is a service of JetStream that a consumer uses.
type consumerService struct {
	subject  string // in Tollgate's account
	as       string // where the consumer's account imports it
	streamed bool   // it answers with several messages
}

// consumerServices are those of a durable of the usage stream; with "*" of all.
//
// A request for CONSUMER.INFO takes a detour by a mapping: every account has
// JetStream's own API under $JS.API.> too, which would answer as well, and first,
// that JetStream is not enabled. MSG.NEXT is exempt from that in the server.
func consumerServices(durable string) []consumerService {
	next := jsAPI + "CONSUMER.MSG.NEXT." + UsageStream + "." + durable
	ack := "$JS.ACK." + UsageStream + "." + durable + ".>"
	return []consumerService{
		{next, next, true},
		{jsAPI + "CONSUMER.INFO." + UsageStream + "." + durable, "tollgate.consumer.info", false},
		{ack, ack, false},
	}
}

func (s consumerService) export() string {
	if s.streamed {
		return fmt.Sprintf("{service: %q, response_type: stream}", s.subject)
	}
	return fmt.Sprintf("{service: %q}", s.subject)
}

// consumerAccount is a consumer's account in the servers' own language, to be put
// beside the account TOLLGATE.
func consumerAccount(name, public, durable string) string {
	services := consumerServices(durable)
	var imports, mappings strings.Builder
	publish := make([]string, 0, len(services))
	for _, s := range services {
		fmt.Fprintf(&imports, "    {service: {account: TOLLGATE, subject: %q}, to: %q}\n", s.subject, s.as)
		publish = append(publish, strconv.Quote(s.as))
		if s.as != s.subject {
			fmt.Fprintf(&mappings, "%q: %q", s.subject, s.as)
		}
	}
	return fmt.Sprintf("%q {\n  users: [{nkey: %q, permissions: {publish: {allow: [%s]}, subscribe: {allow: [\"_INBOX.>\"]}}}]\n  mappings: {%s}\n  imports: [\n%s  ]\n}\n",
		"tollgate-consumer-"+name, public, strings.Join(publish, ", "), mappings.String(), imports.String())
}
