package config

import (
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/fraiseql/observer/internal/natsclient"
)

func (n *NATS) read(s *scope) {
	s.fields(n)
	dir := filepath.Dir(s.doc.file)
	for _, file := range []*string{&n.StoreDir, &n.CredentialsFile} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
	n.checkServer(s)
	n.checkWho(s)
	n.checkTLS(s)
	s.checkToken("stream_name", n.StreamName)
	s.checkToken("consumer_name", n.ConsumerName)
	n.checkPrefix(s)
	s.checkFilter("databases", n.Databases)
	s.checkFilter("entities", n.Entities)
	s.checkFilter("tenants", n.Tenants)
}

// checkServer reports addresses that cannot be, and what one inside the process
// cannot do.
func (n *NATS) checkServer(s *scope) {
	stream := s.inner("jetstream")
	switch _, err := n.servers(); {
	case s.failed("url"):
	case n.IsEmbedded():
		if n.StoreDir == "" && !s.failed("store_dir") {
			s.failKey("store_dir", `is empty: with url = "embedded" the stream needs a directory`)
		}
		if n.JetStream.Replicas > 1 && !stream.failed("replicas") {
			stream.failKey("replicas", `is more than 1, and url = "embedded" is one server`)
		}
	case err != nil:
		s.failKey("url", "%s", err.Error())
	}
}

// servers are the addresses in URL. Errors do not repeat them: they may have a
// password.
func (n *NATS) servers() ([]natsclient.Server, error) {
	if n.IsEmbedded() {
		return nil, nil
	}
	return natsclient.Servers(n.URL)
}

// plaintext are the places that would be reached over a network without TLS.
func (n *NATS) plaintext() []string {
	servers, err := n.servers()
	if err != nil {
		return nil
	}
	return natsclient.Exposed(servers, !n.TLS.IsZero())
}

func (n *NATS) checkPlaintext(s *scope) {
	if hosts := n.plaintext(); len(hosts) > 0 && !n.AllowPlaintext && !s.failed("allow_plaintext") {
		s.failKey("url", "leads to %s without TLS, and every change would be readable on the way: write tls://, "+
			"or allow_plaintext = true where the network is trusted", strings.Join(hosts, ", "))
	}
}

// warnings are what is valid and shows changes to others.
func (n *NATS) warnings() []string {
	hosts := n.plaintext()
	if len(hosts) == 0 {
		return nil
	}
	return []string{"transport.nats.allow_plaintext: every change crosses the network to " + strings.Join(hosts, ", ") + " unencrypted"}
}

// checkWho reports more than one way to say who connects.
func (n *NATS) checkWho(s *scope) {
	servers, _ := n.servers() // a URL that is none says of nobody who they are
	first := ""
	for _, way := range []struct {
		key, name string
		given     bool
	}{
		{"url", "the user in url", slices.ContainsFunc(servers, func(s natsclient.Server) bool { return !s.Secret.IsZero() })},
		{"user", "user", n.User != ""},
		{"token", "token", !n.Token.IsZero()},
		{"nkey_seed", "nkey_seed", !n.NKeySeed.IsZero()},
		{"credentials_file", "credentials_file", n.CredentialsFile != ""},
	} {
		switch {
		case !way.given:
		case first != "":
			s.failKey(way.key, "stands beside %s: write one of the two", first)
		default:
			first = way.name
		}
	}
	if n.User == "" && !n.Password.IsZero() && !s.failed("user") && !s.failed("password") {
		s.failKey("password", "stands without user")
	}
	if seed := n.NKeySeed.Reveal(); seed != "" && !strings.HasPrefix(seed, "SU") && !s.failed("nkey_seed") {
		s.failKey("nkey_seed", "is no seed of a user: those begin with SU")
	}
}

// checkTLS reports one file of a pair.
func (n *NATS) checkTLS(s *scope) {
	tls := s.inner("tls")
	switch {
	case tls.failed("cert") || tls.failed("key"):
	case n.TLS.Cert != "" && n.TLS.Key == "":
		tls.failKey("cert", "stands without key")
	case n.TLS.Key != "" && n.TLS.Cert == "":
		tls.failKey("key", "stands without cert")
	}
}

// checkToken reports a name that NATS has no use for.
func (s *scope) checkToken(key, name string) {
	if !s.failed(key) && (name == "" || len(name) > 100 || strings.ContainsFunc(name, notToken) || strings.Contains(name, ".")) {
		s.failKey(key, "must have 1 to 100 bytes, without spaces, dots, asterisks, slashes or >")
	}
}

// notToken reports what stands in no name.
func notToken(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`*>/\`, r)
}

func (n *NATS) checkPrefix(s *scope) {
	const key = "subject_prefix"
	words := strings.Split(n.SubjectPrefix, ".")
	if !s.failed(key) && (slices.Contains(words, "") || strings.ContainsFunc(n.SubjectPrefix, notToken) || strings.HasPrefix(n.SubjectPrefix, "$")) {
		s.failKey(key, "must be words with dots between them, such as fraiseql.mutation, without spaces, asterisks, slashes or >, and no $ at the beginning")
	}
}

// checkFilter reports a list that nothing could pass, or not what was meant.
func (s *scope) checkFilter(key string, names []string) {
	if s.failed(key) {
		return
	}
	if names != nil && len(names) == 0 {
		s.failKey(key, "is empty: leave it out for all, or list some")
	}
	for i, name := range names {
		switch {
		case name == "" || name == "*":
			s.fail(s.elementOffset(key, i), join(s.path, key), "has no name here: leave the list out for all")
		case slices.Contains(names[:i], name):
			s.fail(s.elementOffset(key, i), join(s.path, key), "has this name twice")
		}
	}
}
