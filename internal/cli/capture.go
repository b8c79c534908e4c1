package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func (c *cli) captureCommand() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "capture",
		Short: "Say which tables are recorded in the change log",
		Long: "Install, list and remove the triggers that record the changes of a table in\n" +
			"the change log of its database, in the transaction that makes them.",
	}, c.captureAdd(), c.captureList(), c.captureRemove())
}

func (c *cli) captureAdd() *cobra.Command {
	var capture captureView
	cmd := &cobra.Command{
		Use:   "add --table TABLE --entity ENTITY",
		Short: "Record the changes of a table",
		Long: "Install the triggers that record every INSERT, UPDATE and DELETE of a table (and on\n" +
			"PostgreSQL every TRUNCATE), and create the change log where it is missing. Doing it\n" +
			"again replaces the triggers: do so after columns were added. --all records every\n" +
			"table of a PostgreSQL schema that has a primary key, under its name in the singular.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&capture.Table, "table", "", "the `TABLE` to record (required)")
	flags.StringVar(&capture.Entity, "entity", "", "the `ENTITY` type of its events, such as Order (required)")
	flags.StringSliceVar(&capture.Key, "key", nil, "the `COLUMNS` that identify a row (default its primary key)")
	flags.StringVar(&capture.Tenant, "tenant", "", "the `COLUMN` whose value is the tenant id")
	flags.StringSliceVar(&capture.Columns, "columns", nil, "the `COLUMNS` that events carry beside the key (default all)")
	flags.BoolVar(&capture.BeforeImage, "before-image", false, "record rows as they were before an UPDATE, so that events have changes")
	all := flags.Bool("all", false, "record every table of a PostgreSQL schema")
	schema := flags.String("schema", "", "the `SCHEMA` of --all (default public)")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		if err := checkAdd(capture, *all, *schema); err != nil {
			return usageError(err)
		}
		on, err := c.captures()
		if err != nil {
			return err
		}
		if *all {
			return c.addAll(cmd.Context(), on, *schema, capture)
		}
		added, err := on.add(cmd.Context(), capture)
		if err != nil {
			return err
		}
		return c.print(added, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "capturing %s as %s, key %s, in %s\n",
				printable(added.Table), printable(added.Entity), printable(strings.Join(added.Key, ", ")), on.place())
		})
	})
	return cmd
}

// checkAdd refuses flags that say too little or contradict each other.
func checkAdd(capture captureView, all bool, schema string) error {
	switch {
	case all && (capture.Table != "" || capture.Entity != "" || len(capture.Key) > 0 || len(capture.Columns) > 0):
		return errors.New("--all stands alone, with --schema, --tenant and --before-image: the rest is about one table")
	case !all && schema != "":
		return errors.New("--schema goes with --all: write --table SCHEMA.TABLE for one table")
	case !all && (capture.Table == "" || capture.Entity == ""):
		return errors.New("capture add needs --table TABLE and --entity ENTITY (or --all)")
	}
	return nil
}

// addAll prints what became of each table, also when some failed.
func (c *cli) addAll(ctx context.Context, on captures, schema string, like captureView) error {
	all, failure := on.addAll(ctx, schema, like)
	if failure != nil && len(all.Added) == 0 {
		return failure
	}
	err := c.print(all, func(w io.Writer) {
		for _, v := range all.Added {
			_, _ = fmt.Fprintf(w, "capturing %s as %s, key %s\n", printable(v.Table), printable(v.Entity), printable(strings.Join(v.Key, ", ")))
		}
		for _, s := range all.Skipped {
			_, _ = fmt.Fprintf(w, "left out %s: %s\n", printable(s.Table), printable(s.Reason))
		}
		_, _ = fmt.Fprintf(w, "%s captured in %s, %d left out\n", count(len(all.Added), "table"), on.place(), len(all.Skipped))
	})
	return errors.Join(err, failure)
}

func (c *cli) captureList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the recorded tables and what changed under them", Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		on, err := c.captures()
		if err != nil {
			return err
		}
		views, err := on.list(cmd.Context())
		if err != nil {
			return err
		}
		return c.print(map[string]any{"database": on.place(), "captures": views}, func(w io.Writer) {
			if len(views) == 0 {
				_, _ = fmt.Fprintf(w, "no table of %s is captured: add one with `%s capture add --table TABLE --entity ENTITY`\n", on.place(), program)
				return
			}
			writeCaptures(w, "", views)
		})
	})
	return cmd
}

func writeCaptures(w io.Writer, indent string, views []captureView) {
	t := newTable(w, indent+"TABLE", "ENTITY", "KEY", "COLUMNS", "TENANT", "BEFORE", "DRIFT")
	for _, v := range views {
		t.row(indent+v.Table, v.Entity, strings.Join(v.Key, ","), cmp.Or(strings.Join(v.Columns, ","), "all"),
			cmp.Or(v.Tenant, "-"), yesNo(v.BeforeImage), cmp.Or(strings.Join(v.Drift, "; "), "none"))
	}
	t.end()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (c *cli) captureRemove() *cobra.Command {
	var table string
	cmd := &cobra.Command{
		Use:   "remove --table TABLE",
		Short: "Stop recording the changes of a table",
		Long:  "Drop the triggers of a table. What they recorded stays and is still handled.",
		Args:  arguments(0, 0),
	}
	c.settings.flags(cmd)
	cmd.Flags().StringVar(&table, "table", "", "the `TABLE` (required)")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		if table == "" {
			return usageError(errors.New("capture remove needs --table TABLE"))
		}
		on, err := c.captures()
		if err != nil {
			return err
		}
		if err := on.remove(cmd.Context(), table); err != nil {
			return err
		}
		return c.print(map[string]string{"table": table}, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "no longer capturing %s in %s\n", printable(table), on.place())
		})
	})
	return cmd
}
