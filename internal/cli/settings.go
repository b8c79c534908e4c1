package cli

import (
	"cmp"
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
	// optional: the command makes sense without a configuration, on a database
	// that a URL names.
	optional bool
	// required: it does not, because it runs actions, which stand there.
	required bool
}

func (s *settings) flags(cmd *cobra.Command) {
	s.configFlag(cmd)
	cmd.Flags().StringVar(&s.database, "database", "",
		"the database: a `URL` (postgres://..., sqlite:FILE) like DATABASE_URL, or the name of one of several")
	_ = cmd.RegisterFlagCompletionFunc("database", s.completeDatabase)
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
		cfg, err := s.loadWithURL()
		if s.optional && s.absent(err) {
			return s.bare("--database", s.database)
		}
		return cfg, err
	}
	cfg, err := loadFile(s.config, os.LookupEnv)
	if url, ok := os.LookupEnv("DATABASE_URL"); ok && s.optional && s.absent(err) && s.database == "" {
		return s.bare("DATABASE_URL", url)
	}
	if err != nil || s.database == "" {
		return cfg, err
	}
	if all := names(cfg.Databases); !slices.Contains(all, s.database) {
		return nil, usageError(fmt.Errorf("--database: %s has no database called %q; it has %s (a URL begins with postgres:// or sqlite:)",
			s.config, s.database, cmp.Or(strings.Join(all, ", "), "none")))
	}
	return cfg, nil
}

// absent reports whether the configuration is missing that nobody named.
func (s *settings) absent(err error) bool {
	var file *config.FileError
	return s.config == defaultConfig && errors.As(err, &file) && errors.Is(err, fs.ErrNotExist)
}

// loadWithURL puts the URL of --database in place of the configured one, by the
// environment variable that has the last word on it.
func (s *settings) loadWithURL() (*config.Config, error) {
	db, err := namedBy("--database", s.database)
	if err != nil {
		return nil, err
	}
	url := s.database
	if db.Kind() == config.SQLite { // relative to the working directory, like every path in a command line
		path, err := filepath.Abs(db.FilePath())
		if err != nil {
			return nil, err
		}
		url = "sqlite:" + path
	}
	cfg, err := loadFile(s.config, lookupWith(url))
	if err == nil && len(cfg.Databases) > 1 {
		return nil, usageError(fmt.Errorf("--database: %s has several databases, so a URL does not say which is replaced: name one of %s",
			s.config, strings.Join(names(cfg.Databases), ", ")))
	}
	return cfg, err
}

// namedBy is the database of a URL that origin gives. The error does not repeat
// the URL: there may be a password in it.
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

// lookupWith is the environment with a URL for the first database.
func lookupWith(url string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if name == "FRAISEQL_DATABASES_0_URL" {
			return url, true
		}
		return os.LookupEnv(name)
	}
}

// bare is the configuration of a database alone, with the defaults and what the
// environment says. Its file would stand in the working directory, so a path in
// the URL is relative to that.
func (s *settings) bare(origin, url string) (*config.Config, error) {
	if _, err := namedBy(origin, url); err != nil {
		return nil, err
	}
	return config.Parse(s.config, nil, lookupWith(url))
}

// target is the configuration for commands that prepare databases. It needs no
// file when --database, or DATABASE_URL, gives the URL, and reads none beside
// --database unless --config names it.
func (s *settings) target() (*config.Config, error) {
	if s.url() && s.config == defaultConfig {
		return s.bare("--database", s.database)
	}
	s.optional = true
	cfg, err := s.load()
	if s.absent(err) {
		return nil, usageError(fmt.Errorf("which database? there is no configuration %s: name a database with --database URL "+
			"(postgres://... or sqlite:FILE), or write a configuration with `%s init`", s.config, program))
	}
	return cfg, err
}

// one is [settings.target] for commands that work on one database.
func (s *settings) one() (*config.Config, error) {
	cfg, err := s.target()
	if err == nil && len(cfg.Databases) == 0 {
		return nil, usageError(fmt.Errorf("which database? %s has none: name one with --database URL (postgres://... or sqlite:FILE)", s.config))
	}
	if err == nil && len(cfg.Databases) != 1 {
		return nil, usageError(fmt.Errorf("which database? %s has several: add --database with one of %s",
			s.config, strings.Join(names(cfg.Databases), ", ")))
	}
	return cfg, err
}

// completeDatabase offers the names of the configured databases.
func (s *settings) completeDatabase(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	cfg, err := config.Load(s.config, os.LookupEnv)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names(cfg.Databases), cobra.ShellCompDirectiveNoFileComp
}

func names(databases []config.Database) []string {
	list := make([]string, len(databases))
	for i, d := range databases {
		list[i] = d.Name
	}
	return list
}
