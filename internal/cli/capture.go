package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	sqlitesource "github.com/fraiseql/observer/source/sqlite"
)

func (c *cli) captureCommand() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "capture",
		Short: "Say which tables are recorded in the change log",
		Long: "Install, list and remove the triggers that record the changes of a table in\n" +
			"the change log of its database, in the transaction that makes them.",
	}, c.captureAdd(), c.captureList(), c.captureRemove())
}

// captureView is a capture as JSON shows it.
type captureView struct {
	Table   string   `json:"table"`
	Entity  string   `json:"entity"`
	Key     []string `json:"key"`
	Columns []string `json:"columns"`
	Tenant  string   `json:"tenant"`
	Drift   []string `json:"drift"`
}

func viewCapture(capture sqlitesource.Capture, drift []string) captureView {
	v := captureView{
		Table: capture.Table, Entity: capture.Entity, Key: orEmpty(capture.Key), Columns: orEmpty(capture.Columns),
		Tenant: capture.Tenant, Drift: orEmpty(drift),
	}
	if len(v.Key) == 0 {
		v.Key = []string{"rowid"}
	}
	return v
}

// orEmpty keeps a list in JSON a list.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (c *cli) captureAdd() *cobra.Command {
	var capture sqlitesource.Capture
	cmd := &cobra.Command{
		Use:   "add --table TABLE --entity ENTITY",
		Short: "Record the changes of a table",
		Long: "Install the triggers that record every INSERT, UPDATE and DELETE of a table, and\n" +
			"create the change log where it is missing. Doing it again replaces the triggers:\n" +
			"do so after columns were added.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&capture.Table, "table", "", "the `TABLE` to record (required)")
	flags.StringVar(&capture.Entity, "entity", "", "the `ENTITY` type of its events, such as Order (required)")
	flags.StringSliceVar(&capture.Key, "key", nil, "the `COLUMNS` that identify a row (default its primary key)")
	flags.StringVar(&capture.Tenant, "tenant", "", "the `COLUMN` whose value is the tenant id")
	flags.StringSliceVar(&capture.Columns, "columns", nil, "the `COLUMNS` that events carry beside the key (default all)")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		if capture.Table == "" || capture.Entity == "" {
			return usageError(errors.New("capture add needs --table TABLE and --entity ENTITY"))
		}
		path, err := c.settings.file()
		if err != nil {
			return err
		}
		added, err := sqlitesource.AddCapture(cmd.Context(), path, capture)
		if err != nil {
			return err
		}
		view := viewCapture(added, nil)
		return c.print(view, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "capturing %s as %s, key %s, in %s\n",
				printable(view.Table), printable(view.Entity), printable(strings.Join(view.Key, ", ")), path)
		})
	})
	return cmd
}

func (c *cli) captureList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the recorded tables and what changed under them", Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		path, err := c.settings.file()
		if err != nil {
			return err
		}
		list, err := sqlitesource.ListCaptures(cmd.Context(), path)
		if err != nil {
			return err
		}
		views := viewCaptures(list)
		return c.print(map[string]any{"database": path, "captures": views}, func(w io.Writer) {
			if len(views) == 0 {
				_, _ = fmt.Fprintf(w, "no table of %s is captured: add one with `%s capture add --table TABLE --entity ENTITY`\n", path, program)
				return
			}
			writeCaptures(w, "", views)
		})
	})
	return cmd
}

func viewCaptures(list []sqlitesource.CaptureStatus) []captureView {
	views := make([]captureView, len(list))
	for i, status := range list {
		views[i] = viewCapture(status.Capture, status.Drift)
	}
	return views
}

func writeCaptures(w io.Writer, indent string, views []captureView) {
	t := newTable(w, indent+"TABLE", "ENTITY", "KEY", "COLUMNS", "TENANT", "DRIFT")
	for _, v := range views {
		t.row(indent+v.Table, v.Entity, strings.Join(v.Key, ","), cmp.Or(strings.Join(v.Columns, ","), "all"),
			cmp.Or(v.Tenant, "-"), cmp.Or(strings.Join(v.Drift, "; "), "none"))
	}
	t.end()
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
		path, err := c.settings.file()
		if err != nil {
			return err
		}
		if err := sqlitesource.RemoveCapture(cmd.Context(), path, table); err != nil {
			return err
		}
		return c.print(map[string]string{"table": table}, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "no longer capturing %s in %s\n", printable(table), path)
		})
	})
	return cmd
}
