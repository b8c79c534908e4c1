package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// format is the value of --format.
type format string

const (
	formatText format = "text"
	formatJSON format = "json"
)

// String, Set and Type make it a flag.
func (f *format) String() string { return string(*f) }

// Set takes text or json.
func (f *format) Set(s string) error {
	if s != string(formatText) && s != string(formatJSON) {
		return errors.New("want text or json")
	}
	*f = format(s)
	return nil
}

// Type is the word for the value in the help text.
func (f *format) Type() string { return "text|json" }

// print writes v as JSON, or what text writes, as --format says.
func (c *cli) print(v any, text func(w io.Writer)) error {
	if c.format == formatJSON {
		enc := json.NewEncoder(c.out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	var b strings.Builder
	text(&b)
	_, err := io.WriteString(c.out, b.String())
	return err
}

// terminal reports whether results go to a person's terminal.
func (c *cli) terminal() bool {
	f, ok := c.out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// width is how many columns the terminal has; 0 when results go elsewhere.
func (c *cli) width() int {
	f, ok := c.out.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// gap is the space between two columns.
const gap = 2

// table writes aligned columns.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer, head ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, gap, ' ', 0)}
	if len(head) > 0 {
		t.row(head...)
	}
	return t
}

func (t table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	_, _ = fmt.Fprintln(t, strings.Join(cells, "\t"))
}

// end writes the table out; it goes to memory, which does not fail.
func (t table) end() { _ = t.Flush() }

// lastRoom is how much of width the columns before the last one leave to it.
func lastRoom(rows [][]string, width int) int {
	for column := range len(rows[0]) - 1 {
		widest := 0
		for _, row := range rows {
			widest = max(widest, utf8.RuneCountInString(printable(row[column])))
		}
		width -= widest + gap
	}
	return width
}

// printable keeps what others wrote (keys, errors, answers of receivers) from
// steering the terminal or breaking the table.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	quoted := strconv.QuoteToGraphic(s)
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(quoted[1 : len(quoted)-1])
}

// short cuts s to the width of a column.
func short(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return s
}

// age is a span of time as tables show it: 45s, 3m20s, 2h5m, 4d.
func age(d time.Duration) string {
	seconds := int(max(d, 0).Round(time.Second) / time.Second)
	switch minutes := seconds / 60; {
	case minutes >= 48*60:
		return fmt.Sprintf("%dd", minutes/60/24)
	case minutes >= 60:
		return fmt.Sprintf("%dh%dm", minutes/60, minutes%60)
	case minutes > 0:
		return fmt.Sprintf("%dm%ds", minutes, seconds%60)
	}
	return fmt.Sprintf("%ds", seconds)
}

// moment is a time as tables show it; "unknown" when it is zero.
func moment(t time.Time) string {
	if t.IsZero() {
		return unknownValue
	}
	return t.UTC().Format(time.RFC3339)
}

const unknownValue = "unknown"

// when is a time for JSON: null when it is zero.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
