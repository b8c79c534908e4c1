package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/postgres/changelog"
	postgresstore "github.com/fraiseql/observer/store/postgres"
)

// migration is what migrate prepares.
type migration struct {
	cfg    *config.Config
	notify changelog.Notify
}

// prepared is a place that migrate has brought up to date.
type prepared struct {
	// What is change_log or state.
	What string `json:"what"`
	// Database is the name in the configuration; "" for the state.
	Database string `json:"database,omitempty"`
	Place    string `json:"place"`
	Log      string `json:"log,omitempty"`
	Schema   string `json:"schema"`
}

func (c *cli) migrateCommand() *cobra.Command {
	var notify string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Prepare PostgreSQL databases: the change log and the state",
		Long: "Create what is missing, and bring up to date what is there: the change log of each\n" +
			"PostgreSQL database, with the trigger that wakes the daemon, and the tables of the\n" +
			"state. Nothing that is there is changed or removed. Doing it again, also in several\n" +
			"places at once, does no harm, and needs no rights when nothing is missing.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	script := cmd.Flags().Bool("print", false, "connect to nothing: print the SQL, for somebody else to run")
	cmd.Flags().StringVar(&notify, "notify", "", "when writers notify the sleeping daemon: `MODE` auto, always or never (default as it is, auto at first)")
	_ = cmd.RegisterFlagCompletionFunc("notify", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		switch changelog.Notify(notify) {
		case "", changelog.NotifyAuto, changelog.NotifyAlways, changelog.NotifyNever:
		default:
			return usageError(errors.New("--notify: want auto, always or never"))
		}
		cfg, err := c.settings.target()
		if err != nil {
			return err
		}
		m := migration{cfg: cfg, notify: changelog.Notify(notify)}
		if !m.any() {
			return usageError(errors.New("migrate is for PostgreSQL, and there is none here: `" + program + " capture add` prepares a SQLite database"))
		}
		if *script {
			return m.script(c.out)
		}
		done, err := m.run(cmd.Context())
		if err != nil {
			return err
		}
		return c.print(done, func(w io.Writer) {
			for _, p := range done {
				p.text(w)
			}
		})
	})
	return cmd
}

func (p prepared) text(w io.Writer) {
	if p.What == "state" {
		_, _ = fmt.Fprintf(w, "state: schema %s at %s is ready\n", printable(p.Schema), p.Place)
		return
	}
	_, _ = fmt.Fprintf(w, "database %s: change log %s at %s is ready\n", p.Database, printable(p.Log), p.Place)
}

func (m migration) any() bool { return len(m.databases()) > 0 || m.cfg.State.Kind() == config.Postgres }

func (m migration) databases() (list []config.Database) {
	for _, db := range m.cfg.Databases {
		if db.Kind() == config.Postgres {
			list = append(list, db)
		}
	}
	return list
}

func (m migration) options(db config.Database) changelog.Options {
	return changelog.Options{Log: db.LogName(), Schema: m.cfg.State.Schema, Notify: m.notify}
}

func (m migration) run(ctx context.Context) ([]prepared, error) {
	done := []prepared{}
	for _, db := range m.databases() {
		if err := changelog.Migrate(ctx, db.URL.Reveal(), m.options(db)); err != nil {
			return nil, fmt.Errorf("database %s: %w", db.Name, plainly(db.Place(), err))
		}
		done = append(done, prepared{What: "change_log", Database: db.Name, Place: db.Place(), Log: db.Log, Schema: m.cfg.State.Schema})
	}
	if st := m.cfg.State; st.Kind() == config.Postgres {
		if err := postgresstore.Migrate(ctx, st.URL.Reveal(), st.Schema); err != nil {
			return nil, err
		}
		done = append(done, prepared{What: "state", Place: st.Server(), Schema: st.Schema})
	}
	return done, nil
}

// script prints the SQL with the places that it is for.
func (m migration) script(w io.Writer) error {
	var errs []error
	show := func(what, place, sql string) {
		_, err := fmt.Fprintf(w, "-- %s, to be run at %s\n\n%s\n", printable(what), place, sql)
		errs = append(errs, err)
	}
	for _, db := range m.databases() {
		show("Change log "+db.Log, db.Place(), changelog.Script(m.options(db)))
	}
	if st := m.cfg.State; st.Kind() == config.Postgres {
		sql, err := postgresstore.Script(st.Schema)
		if err != nil {
			return err
		}
		show("State in schema "+st.Schema, st.Server(), sql)
	}
	return errors.Join(errs...)
}
