package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/postgres/doctor"
)

// diagnosis is what doctor prints as JSON.
type diagnosis struct {
	Worst doctor.Level `json:"worst"`
	doctor.Report
}

func (c *cli) doctorCommand() *cobra.Command {
	var strict bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine a PostgreSQL database and say what to do",
		Long: "Examine a PostgreSQL database for what keeps changes from being recorded, read and\n" +
			"delivered: rights, triggers, the change log, settings, and what is in the way at\n" +
			"the moment. Each finding says what to do. Nothing is changed. The exit code is 4\n" +
			"when there is a problem.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	cmd.Flags().BoolVar(&strict, "strict", false, "end with code 4 also when there are only warnings")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		cfg, err := c.settings.one()
		if err != nil {
			return err
		}
		report, err := diagnose(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		more, err := diagnoseRedis(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		report.Findings = append(report.Findings, more...)
		worst := report.Worst()
		err = c.print(diagnosis{worst, report}, func(w io.Writer) { _ = report.WriteText(w, c.width()) })
		if err == nil && (worst == doctor.Problem || strict && worst == doctor.Warning) {
			return &codedError{code: exitInvalid}
		}
		return err
	})
	return cmd
}

// diagnose examines the one database of a configuration.
func diagnose(ctx context.Context, cfg *config.Config) (doctor.Report, error) {
	db := cfg.Databases[0]
	if db.Kind() != config.Postgres {
		return doctor.Report{}, usageError(fmt.Errorf("doctor examines PostgreSQL databases, and %s is none: `%s status` says how it is", db.Place(), program))
	}
	report, err := doctor.Examine(ctx, doctor.Options{URL: db.URL, Log: db.LogName(), Checkpoint: checkpointOf(ctx, cfg, cfg.CheckpointName(db.Name))})
	if errors.Is(err, doctor.ErrConnect) {
		return report, connectionError(err)
	}
	return report, err
}

// checkpointOf is how far a database is handled; empty when that is not known.
// What is wrong with the state is for status to say.
func checkpointOf(ctx context.Context, cfg *config.Config, name string) observer.Position {
	store, err := readState(ctx, cfg)
	if err != nil {
		return ""
	}
	defer func() { _ = store.Close() }()
	saved, err := store.LoadCheckpoint(ctx, name)
	if err != nil {
		return ""
	}
	return saved.Position
}
