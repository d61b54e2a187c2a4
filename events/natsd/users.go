package natsd

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// User is somebody outside who may use some services of the server: pull from
// one durable consumer and acknowledge what it delivers.
type User struct {
	Name         string // [a-z0-9-]{1,63}
	PasswordHash string // as HashPassword makes it
	// Stream and Durable name the consumer: letters, digits, - and _.
	Stream, Durable string
}

// ErrNotListening says that there is no door for users from outside.
var ErrNotListening = errors.New("the embedded NATS server does not take connections from outside: start with --nats-listen ADDR")

const (
	internalUser = "TOLLGATE" // no name that User.Name can have
	mainAccount  = "TOLLGATE"
	// infoSubject is where an outside user's CONSUMER.INFO request is mapped
	// to, see accounts.
	infoSubject = "tollgate.consumer.info"
)

var (
	userName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	token    = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	hashForm = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)
)

// SetUsers replaces the users that may connect from outside. It acts at once,
// also on connections that are open: a user who is gone is cut off, others don't
// notice. The error is ErrNotListening where the server does not listen.
func (s *Server) SetUsers(users []User) error {
	if s.cfg.Listen == "" {
		return ErrNotListening
	}
	seen := map[string]bool{}
	for _, u := range users {
		if !userName.MatchString(u.Name) || !hashForm.MatchString(u.PasswordHash) ||
			!token.MatchString(u.Stream) || !token.MatchString(u.Durable) || seen[u.Name] {
			return fmt.Errorf("the NATS user %q is not well formed, or there twice", u.Name)
		}
		seen[u.Name] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = slices.Clone(users)
	// Twice, because nats-server 2.15 subscribes the imports of an account in a
	// reload only if the account was there before.
	for range 2 {
		opts, err := s.options(users)
		if err != nil {
			return err
		}
		if err := s.nats.Load().ReloadOptions(opts); err != nil {
			return fmt.Errorf("reloading the NATS users: %w", err)
		}
	}
	return nil
}

// accounts writes the accounts and users in the server's language. Everything
// that is stored lives in the main account. An outside user has an account of
// its own with nothing in it but the imports of its consumer's services: so the
// default inbox of any client works, and nobody can listen to somebody else's.
//
// A request for CONSUMER.INFO takes a detour by a mapping: every account has
// JetStream's own API under $JS.API.> too, which would answer as well, and first,
// that JetStream is not enabled. MSG.NEXT is exempt from that in the server.
func accounts(internalHash string, users []User) string {
	var main, others strings.Builder
	for _, u := range users {
		account := "user_" + u.Name
		next := "$JS.API.CONSUMER.MSG.NEXT." + u.Stream + "." + u.Durable
		info := "$JS.API.CONSUMER.INFO." + u.Stream + "." + u.Durable
		ack := "$JS.ACK." + u.Stream + "." + u.Durable + ".>"

		fmt.Fprintf(&main, "    {service: %q, response_type: stream, accounts: [%q]}\n", next, account)
		fmt.Fprintf(&main, "    {service: %q, accounts: [%q]}\n", info, account)
		fmt.Fprintf(&main, "    {service: %q, accounts: [%q]}\n", ack, account)

		fmt.Fprintf(&others, "  %q {\n", account)
		fmt.Fprintf(&others, "    users: [{user: %q, password: %q, permissions: {\n", u.Name, u.PasswordHash)
		fmt.Fprintf(&others, "      publish: {allow: [%q, %q, %q]}, subscribe: {allow: [\"_INBOX.>\"]}}}]\n", next, infoSubject, ack)
		fmt.Fprintf(&others, "    mappings: {%q: %q}\n", info, infoSubject)
		fmt.Fprintf(&others, "    imports: [\n")
		fmt.Fprintf(&others, "      {service: {account: %s, subject: %q}}\n", mainAccount, next)
		fmt.Fprintf(&others, "      {service: {account: %s, subject: %q}, to: %q}\n", mainAccount, info, infoSubject)
		fmt.Fprintf(&others, "      {service: {account: %s, subject: %q}}\n    ]\n  }\n", mainAccount, ack)
	}
	return fmt.Sprintf("accounts {\n  %s {\n    jetstream: enabled\n    users: [{user: %s, password: %q}]\n    exports: [\n%s    ]\n  }\n%s}\n",
		mainAccount, internalUser, internalHash, main.String(), others.String())
}
