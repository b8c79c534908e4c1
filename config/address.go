package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
)

// The kinds of database.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// address is where a URL leads, without what is secret in it.
type address struct {
	kind string
	path string // of a SQLite file
	// server and database are those of PostgreSQL.
	server, database string
}

// String is the place for people, and the same for two URLs of one database.
func (a address) String() string {
	if a.kind == Postgres {
		return a.server + "/" + a.database
	}
	return a.path
}

const available = `available: "postgres://user@host:5432/database", "sqlite:path/to/file.db"`

// addressOf reads a URL. A path in it is relative to dir. Its errors do not repeat
// the URL: what is no URL may be a misplaced password.
func addressOf(url observer.Secret, dir string) (address, error) {
	if url.IsZero() {
		return address{}, errors.New(`is missing: write url = "postgres://user@host:5432/database" or "sqlite:path/to/file.db"`)
	}
	switch name := scheme(url); name {
	case "sqlite":
		path, err := sqlitePath(url.Reveal(), dir)
		return address{kind: SQLite, path: path}, err
	case "postgres", "postgresql":
		return postgresAddress(url.Reveal())
	case "mysql", "sqlserver":
		return address{}, fmt.Errorf("names a %s database, which %s (%s)", name, notAvailable, available)
	case "":
		return address{}, fmt.Errorf("has no scheme (%s)", available)
	}
	return address{}, fmt.Errorf("has an unknown scheme (%s)", available)
}

func scheme(url observer.Secret) string {
	name, _, ok := strings.Cut(url.Reveal(), ":")
	if !ok || !bare.MatchString(name) {
		return ""
	}
	return strings.ToLower(name)
}

// postgresAddress checks a URL as the driver will read it: with the variables of
// libpq (PGPASSWORD, PGSSLROOTCERT) and the password file.
func postgresAddress(text string) (address, error) {
	_, rest, _ := strings.Cut(text, ":")
	if !strings.HasPrefix(rest, "//") {
		return address{}, errors.New("has no // after the scheme: write postgres://user@host:5432/database")
	}
	if _, err := url.Parse(text); err != nil && !strings.Contains(text, ",") { // several hosts are no URL to Go
		return address{}, errors.New("cannot be read: the port is a number, and in user and password other characters than letters and digits " +
			"are written %XX (@ is %40, / is %2F)")
	}
	// The driver knows the schemes in lower case only.
	cfg, err := pgx.ParseConfig("postgres:" + rest)
	if err != nil {
		return address{}, errors.New("cannot be read by the PostgreSQL driver: write postgres://user@host:5432/database, " +
			"and look at what follows the ? and at the certificate files that it names")
	}
	servers := []string{serverOf(cfg.Host, cfg.Port)}
	for _, f := range cfg.Fallbacks {
		if more := serverOf(f.Host, f.Port); more != servers[len(servers)-1] {
			servers = append(servers, more)
		}
	}
	database := cfg.Database
	if database == "" {
		database = cfg.User // as the server chooses
	}
	return address{kind: Postgres, server: strings.Join(servers, ","), database: database}, nil
}

func serverOf(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// sqlitePath is the file that a URL names, relative to dir. The forms are
// sqlite:path/to/file.db, sqlite:/path/to/file.db and sqlite:///path/to/file.db.
func sqlitePath(text, dir string) (string, error) {
	_, path, _ := strings.Cut(text, ":")
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		if !strings.HasPrefix(rest, "/") {
			return "", errors.New("has two slashes: write sqlite:path/to/file.db or sqlite:///path/to/file.db")
		}
		path = rest
	}
	switch {
	case path == "":
		return "", errors.New(`names no file: write "sqlite:path/to/file.db"`)
	case path == ":memory:":
		return "", errors.New("names a database in memory, which no other process can reach: name a file")
	case strings.ContainsAny(path, "?#\x00"):
		return "", errors.New("must be the path alone, without options after ? or #")
	case strings.HasSuffix(path, "/"):
		return "", errors.New("names a directory: name a file in it")
	}
	if runtime.GOOS == "windows" && len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:] // sqlite:///C:/shop.db
	}
	path = filepath.FromSlash(path)
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return path, nil
}
