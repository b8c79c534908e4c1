package database_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/database"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func newAction(t *testing.T, cfg database.Config) *database.Action {
	t.Helper()
	a, err := database.New(cfg, actiontest.Network().DialContext)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// server is a database with a table that the functions of the tests write.
type server struct {
	url   string
	conn  *pgx.Conn
	proxy *testenv.Proxy
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{url: testenv.Database(t)}
	s.conn = testenv.Connect(t, s.url)
	testenv.Exec(t, s.conn, `
		CREATE TABLE calls (id int GENERATED ALWAYS AS IDENTITY, text text, key text DEFAULT current_setting('fraiseql.delivery_key', true));
		CREATE FUNCTION record(text text) RETURNS text LANGUAGE sql AS $$ INSERT INTO calls (text) VALUES ($1) RETURNING 'recorded ' || text $$`)
	u := parse(t, s.url)
	s.proxy = testenv.NewProxy(t, u.Host)
	return s
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// proxied is the URL of the database by way of the proxy.
func (s *server) proxied(t *testing.T) observer.Secret {
	t.Helper()
	u := parse(t, s.url)
	u.Host = s.proxy.Address
	return observer.NewSecret(u.String())
}

func (s *server) calls(t *testing.T) []string {
	t.Helper()
	rows, err := s.conn.Query(t.Context(), "SELECT text FROM calls ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

func (s *server) answer(t *testing.T, answer actiontest.Answer) {
	t.Helper()
	raise := func(code string) {
		testenv.Exec(t, s.conn, `CREATE OR REPLACE FUNCTION record(text text) RETURNS text LANGUAGE plpgsql
			AS $$ BEGIN RAISE EXCEPTION '%', text USING ERRCODE = '`+code+`'; END $$`)
	}
	switch answer {
	case actiontest.RefuseNow:
		raise("serialization_failure")
	case actiontest.RefuseForever:
		raise("check_violation")
	case actiontest.Hang:
		s.proxy.Mute("record")
	case actiontest.HangUp:
		s.proxy.HangUp("record")
	case actiontest.Away:
		s.proxy.Away()
	case actiontest.Accept:
		s.proxy.Pass()
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	actiontest.Run(t, func(t *testing.T) actiontest.Fixture {
		t.Helper()
		s := newServer(t)
		return actiontest.Fixture{
			New: func(t *testing.T, message string) observer.Action {
				t.Helper()
				return newAction(t, database.Config{
					URL: s.proxied(t), FunctionName: "record", Params: `["` + message + `"]`,
					Redactor: observer.NewRedactor(observer.NewSecret(actiontest.Secret)),
				})
			},
			Received: func() []string { return s.calls(t) },
			Answer:   func(answer actiontest.Answer) { s.answer(t, answer) },
		}
	})
}

func TestArguments(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	testenv.Exec(t, s.conn, `
		CREATE SCHEMA "Api";
		CREATE FUNCTION "Api"."all"(n bigint, price numeric, flag boolean, r jsonb, nothing text DEFAULT 'default')
			RETURNS text LANGUAGE sql AS $$ SELECT concat_ws('|', n, price, flag, r->>'status', coalesce(nothing, 'NULL')) $$;
		CREATE FUNCTION whole(event jsonb) RETURNS text LANGUAGE sql AS $$ SELECT concat(event->>'event_type', event->'data'->>'number') $$;
		CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS $$ INSERT INTO calls (text) VALUES ('none') $$;
		CREATE FUNCTION many() RETURNS SETOF int LANGUAGE sql AS $$ SELECT generate_series(5, 90) $$`)
	for name, c := range map[string]struct{ function, params, want string }{
		"list":     {"Api.all", `[{{ data.number }}, "10.50", true, {{ data }}, null]`, `7|10.50|t|it's "x"|NULL`},
		"named":    {"Api.all", `{"flag": false, "n": 1, "price": 1e2, "r": {}}`, "1|100|f|default"},
		"event":    {"whole", "", "UPDATE7"},
		"no value": {"nothing", "[]", ""},
		"rows":     {"many", "{}", "5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAction(t, database.Config{URL: observer.NewSecret(s.url), FunctionName: c.function, Params: c.params})
			result, err := a.Execute(t.Context(), actiontest.NewDelivery(7, `it's "x"`))
			if err != nil || result.Detail != c.want {
				t.Errorf("%q, %v; want %q", result.Detail, err, c.want)
			}
		})
	}
}

func TestValuesAreArguments(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := newAction(t, database.Config{URL: observer.NewSecret(s.url), FunctionName: "public.record", Params: `["{{ data.status }}"]`})
	var want []string
	for _, value := range []string{`'); DROP TABLE calls; --`, `$1`, `\'`, `"); x`, "a\nb", ""} {
		if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, value)); err != nil {
			t.Errorf("%q: %v", value, err)
		}
		want = append(want, value)
	}
	if diff := cmp.Diff(want, s.calls(t)); diff != "" {
		t.Error(diff)
	}
}

func TestNamesOfArgumentsAreQuoted(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := newAction(t, database.Config{URL: observer.NewSecret(s.url), FunctionName: "record", Params: `{"{{ data.status }}": "x"}`})
	_, err := a.Execute(t.Context(), actiontest.NewDelivery(7, `text" => 'y'); DROP TABLE calls; --`))
	if err == nil || observer.Retryable(err) || len(s.calls(t)) != 0 {
		t.Errorf("%v, calls %q", err, s.calls(t))
	}
	d := actiontest.NewDelivery(7, "x")
	d.Request = []byte(`{"function": "record", "params": "{\"text\": 1, \"text\": 2}"}`)
	if _, err := a.Execute(t.Context(), d); observer.ReasonOf(err) != observer.ReasonTemplate {
		t.Errorf("a name given twice: %v", err)
	}
}

func TestFunctionFindsTheKey(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := newAction(t, database.Config{URL: observer.NewSecret(s.url), FunctionName: "record", Params: `["x"]`})
	d := actiontest.NewDelivery(7, "shipped")
	if _, err := a.Execute(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := testenv.Value[string](t, s.conn, "SELECT key FROM calls"); got != d.Key {
		t.Errorf("key %q, want %q", got, d.Key)
	}
}

func TestStatementTimeout(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	testenv.Exec(t, s.conn, `CREATE FUNCTION slow() RETURNS void LANGUAGE sql AS
		$$ SELECT pg_sleep(600); INSERT INTO calls (text) VALUES ('too late') $$`)
	a := newAction(t, database.Config{URL: observer.NewSecret(s.url), FunctionName: "slow", Params: "[]", StatementTimeout: 50 * time.Millisecond})
	_, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "x"))
	if err == nil || !strings.Contains(err.Error(), "57014") || !observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want a transient error with a known outcome", err)
	}
}

// TestEndedAttemptEndsTheCall: the function is cancelled, so that the outcome is
// known, and takes no place on the server.
func TestEndedAttemptEndsTheCall(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	testenv.Exec(t, s.conn, `CREATE FUNCTION slow() RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(600) $$`)
	a := newAction(t, database.Config{URL: observer.NewSecret(s.url), FunctionName: "slow", Params: "[]"})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := a.Execute(ctx, actiontest.NewDelivery(7, "x"))
		ended <- err
	}()
	const running = "SELECT count(*) = $1 FROM pg_stat_activity WHERE query LIKE '%\"slow\"()%' AND state = 'active' AND datname = current_database() AND pid <> pg_backend_pid()"
	testenv.Eventually(t, s.conn, running, 1)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want context.Canceled with a known outcome", err)
	}
	testenv.Eventually(t, s.conn, running, 0)
}

func TestSQLSTATE(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	testenv.Exec(t, s.conn, `CREATE FUNCTION fail(code text) RETURNS void LANGUAGE plpgsql
		AS $$ BEGIN INSERT INTO calls (text) VALUES ('rolled back'); RAISE EXCEPTION 'no' USING ERRCODE = code; END $$`)
	fail := newAction(t, database.Config{URL: observer.NewSecret(s.url), FunctionName: "fail", Params: `["{{ data.status }}"]`})
	for code, permanent := range map[string]bool{
		"40001": false, "40P01": false, "55P03": false, "53300": false, "57P01": false, "08006": false, "25006": false, "XX000": false,
		"42501": true, "22003": true, "23505": true, "P0001": true, "0A000": true,
	} {
		_, err := fail.Execute(t.Context(), actiontest.NewDelivery(7, code))
		if err == nil || observer.Retryable(err) == permanent || observer.IsOutcomeUnknown(err) || !strings.Contains(err.Error(), code) {
			t.Errorf("%s: %v (retryable %v, unknown %v)", code, err, observer.Retryable(err), observer.IsOutcomeUnknown(err))
		}
	}
	missing := newAction(t, database.Config{URL: observer.NewSecret(s.url), FunctionName: "missing", Params: `[]`})
	if _, err := missing.Execute(t.Context(), actiontest.NewDelivery(7, "x")); err == nil || observer.Retryable(err) {
		t.Errorf("no such function: %v", err)
	}
	_, err := fail.Execute(t.Context(), actiontest.NewDelivery(7, "08007"))
	if !observer.IsOutcomeUnknown(err) {
		t.Errorf("transaction resolution unknown: %v", err)
	}
	if got := s.calls(t); len(got) != 0 {
		t.Errorf("calls %q", got)
	}
}

// TestFailureAtCommit: a call whose rows are refused when the transaction ends
// has answered before.
func TestFailureAtCommit(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	testenv.Exec(t, s.conn, `ALTER TABLE calls ADD CONSTRAINT once UNIQUE (text) DEFERRABLE INITIALLY DEFERRED`)
	a := newAction(t, database.Config{URL: observer.NewSecret(s.url), FunctionName: "record", Params: `["x"]`})
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "x")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "x")); err == nil || observer.Retryable(err) {
		t.Errorf("%v, want a permanent error", err)
	}
}

func TestConnectionsAreFewAndClosed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	testenv.Exec(t, s.conn, `CREATE FUNCTION busy() RETURNS int LANGUAGE sql AS
		$$ SELECT pg_sleep(0.05); SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'fraiseql-observer' AND datname = current_database() $$`)
	a := newAction(t, database.Config{URL: observer.NewSecret(s.url), FunctionName: "busy", Params: "[]", MaxConnections: 2})
	answers := make(chan string)
	for range 8 {
		go func() {
			result, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "x"))
			if err != nil {
				t.Error(err)
			}
			answers <- result.Detail
		}()
	}
	for range 8 {
		if got := <-answers; got != "1" && got != "2" {
			t.Errorf("%s connections", got)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	const left = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'fraiseql-observer' AND datname = current_database()"
	testenv.Eventually(t, s.conn, left)
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "x")); err != nil {
		t.Errorf("a delivery that came late: %v", err)
	}
	testenv.Eventually(t, s.conn, left)
}

func TestSecretsOfTheURL(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	u := parse(t, s.url)
	u.User = url.UserPassword("postgres", "wrong-s3cret")
	wrong := newAction(t, database.Config{URL: observer.NewSecret(u.String()), FunctionName: "record"})
	d := actiontest.NewDelivery(7, "x")
	_, err := wrong.Execute(t.Context(), d)
	if err == nil || observer.Retryable(err) || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("%v, want a permanent error with SQLSTATE 28P01", err)
	}
	endpoint := wrong.Endpoint(t.Context(), d)
	if text := err.Error() + endpoint + string(d.Request); strings.Contains(text, "s3cret") {
		t.Errorf("the password shows: %s", text)
	}
	if !strings.HasPrefix(endpoint, "database "+u.Host) {
		t.Errorf("endpoint %q", endpoint)
	}
}

func TestGuardJudgesTheServer(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "localhost", "169.254.169.254"} {
		a, err := database.New(database.Config{URL: observer.NewSecret("postgres://u:p@" + host + "/db"), FunctionName: "f"},
			outbound.New(outbound.Config{}).DialContext)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Execute(t.Context(), actiontest.NewDelivery(7, "x"))
		if !errors.Is(err, outbound.ErrRefused) || observer.Retryable(err) {
			t.Errorf("%s: %v, want a refused address, permanent", host, err)
		}
		_ = a.Close()
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	good := observer.NewSecret("postgres://u:s3cret@db.example.com/shop")
	for name, c := range map[string]struct {
		cfg  database.Config
		want []string
	}{
		"empty":         {database.Config{}, []string{"url", "function_name"}},
		"not a URL":     {database.Config{URL: observer.NewSecret("host=/tmp password=s3cret"), FunctionName: "f"}, []string{"url"}},
		"a socket":      {database.Config{URL: observer.NewSecret("postgres:///db?host=/tmp"), FunctionName: "f"}, []string{"url"}},
		"a bad port":    {database.Config{URL: observer.NewSecret("postgres://u:s3cret@h/db?pool_max_conns=x"), FunctionName: "f"}, []string{"url"}},
		"a statement":   {database.Config{URL: good, FunctionName: "f(); DROP TABLE x"}, []string{"function_name"}},
		"quotes":        {database.Config{URL: good, FunctionName: `"F"`}, []string{"function_name"}},
		"three parts":   {database.Config{URL: good, FunctionName: "a.b.c"}, []string{"function_name"}},
		"empty part":    {database.Config{URL: good, FunctionName: "a."}, []string{"function_name"}},
		"a long name":   {database.Config{URL: good, FunctionName: strings.Repeat("f", 64)}, []string{"function_name"}},
		"no list":       {database.Config{URL: good, FunctionName: "f", Params: `"x"`}, []string{"params"}},
		"a placeholder": {database.Config{URL: good, FunctionName: "f", Params: `{{ data }}`}, []string{"params"}},
		"limits":        {database.Config{URL: good, FunctionName: "f", StatementTimeout: -1, MaxConnections: 101}, []string{"statement_timeout", "max_connections"}},
		"bad JSON":      {database.Config{URL: good, FunctionName: "f", Params: `[1,`}, []string{"params"}},
	} {
		_, err := database.New(c.cfg, (&net.Dialer{}).DialContext)
		if diff := cmp.Diff(c.want, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the password shows in %q", name, err)
		}
	}
}

func TestTooManyBytes(t *testing.T) {
	t.Parallel()
	a := newAction(t, database.Config{URL: observer.NewSecret("postgres://h/d"), FunctionName: "f"})
	d := actiontest.NewDelivery(7, "x")
	d.Event.Data = json.RawMessage(`{"x":"` + strings.Repeat("x", 10<<20) + `"}`)
	if err := a.Prepare(t.Context(), d); observer.ReasonOf(err) != observer.ReasonTooLarge {
		t.Errorf("%v, want a permanent error with reason too_large", err)
	}
}
