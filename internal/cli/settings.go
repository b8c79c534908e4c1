package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
)

const defaultConfig = "fraiseql-observer.toml"

// settings are the flags that say which configuration and database are meant.
// They mean the same in every command.
type settings struct {
	config   string
	database string
}

func (s *settings) flags(cmd *cobra.Command) {
	s.configFlag(cmd)
	cmd.Flags().StringVar(&s.database, "database", "",
		"the database: a `URL` (sqlite:FILE) like DATABASE_URL, or the name of one of several")
}

func (s *settings) configFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.config, "config", defaultConfig, "the configuration `FILE`")
	_ = cmd.MarkFlagFilename("config", "toml")
}

// url reports whether --database gives a URL, as opposed to a name: names have
// no colon.
func (s *settings) url() bool { return strings.Contains(s.database, ":") }

// loadFile reads a configuration and refuses variables of the environment that
// look like a key of it and are none.
func loadFile(path string, lookup func(string) (string, bool)) (*config.Config, error) {
	cfg, err := config.Load(path, lookup)
	if err != nil {
		return nil, err
	}
	return cfg, cfg.CheckEnvironment(os.Environ())
}

// load reads the configuration as --config and --database say. With the name of
// a database the configuration has that one only.
func (s *settings) load() (*config.Config, error) {
	cfg, err := s.loadAll()
	if err != nil || s.database == "" || s.url() {
		return cfg, err
	}
	one := *cfg
	one.Databases = slices.DeleteFunc(slices.Clone(cfg.Databases), func(d config.Database) bool { return d.Name != s.database })
	return &one, nil
}

// loadAll is [settings.load] for commands about the state, which is kept for all
// databases together: the name of one is checked and selects nothing.
func (s *settings) loadAll() (*config.Config, error) {
	if s.url() {
		return s.loadWithURL()
	}
	cfg, err := loadFile(s.config, os.LookupEnv)
	if err != nil || s.database == "" {
		return cfg, err
	}
	if all := names(cfg.Databases); !slices.Contains(all, s.database) {
		return nil, usageError(fmt.Errorf("--database: %s has no database called %q; it has %s (a URL begins with sqlite:)",
			s.config, s.database, strings.Join(all, ", ")))
	}
	return cfg, nil
}

// loadWithURL puts the URL of --database in place of the configured one, by the
// environment variable that has the last word on it.
func (s *settings) loadWithURL() (*config.Config, error) {
	db, err := s.named()
	if err != nil {
		return nil, err
	}
	path, err := filepath.Abs(db.FilePath())
	if err != nil {
		return nil, err
	}
	cfg, err := loadFile(s.config, func(name string) (string, bool) {
		if name == "FRAISEQL_DATABASES_0_URL" {
			return "sqlite:" + path, true
		}
		return os.LookupEnv(name)
	})
	if err == nil && len(cfg.Databases) > 1 {
		return nil, usageError(fmt.Errorf("--database: %s has several databases, so a URL does not say which is replaced: name one of %s",
			s.config, strings.Join(names(cfg.Databases), ", ")))
	}
	return cfg, err
}

// named is the database that a URL of --database names. Its path is absolute or
// relative to the working directory, like every path in a command line.
func (s *settings) named() (config.Database, error) {
	return namedBy("--database", s.database)
}

// namedBy is the database of a URL that is not in the configuration. The error
// does not repeat the URL: other kinds of database have passwords in theirs.
func namedBy(origin, url string) (config.Database, error) {
	db, err := config.NewDatabase("default", observer.NewSecret(url))
	if err != nil {
		// It says "database default: url ...", which nobody wrote.
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
		}
		return db, usageError(fmt.Errorf("%s %w", origin, err))
	}
	return db, nil
}

// file is the one database file that a command works on. It needs no
// configuration when --database, or DATABASE_URL, gives the URL.
func (s *settings) file() (string, error) {
	if s.url() {
		db, err := s.named()
		return db.FilePath(), err
	}
	cfg, err := s.load()
	var missing *config.FileError
	if errors.As(err, &missing) && errors.Is(err, fs.ErrNotExist) {
		return s.fileWithoutConfig()
	}
	if err != nil {
		return "", err
	}
	if len(cfg.Databases) != 1 {
		return "", usageError(fmt.Errorf("which database? %s has several: add --database with one of %s",
			s.config, strings.Join(names(cfg.Databases), ", ")))
	}
	return cfg.Databases[0].FilePath(), nil
}

func (s *settings) fileWithoutConfig() (string, error) {
	if url, ok := os.LookupEnv("DATABASE_URL"); ok && s.database == "" {
		db, err := namedBy("DATABASE_URL", url)
		return db.FilePath(), err
	}
	return "", usageError(fmt.Errorf("which database? there is no configuration %s: name a database with --database sqlite:FILE, "+
		"or write a configuration with `%s init`", s.config, program))
}

func names(databases []config.Database) []string {
	list := make([]string, len(databases))
	for i, d := range databases {
		list[i] = d.Name
	}
	return list
}
