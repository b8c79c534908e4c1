package doctor

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// leastText is how many columns a text has at least, however narrow the
// terminal is.
const leastText = 40

// WriteText writes the report for people: the worst findings first, wrapped to
// width columns, or not at all when width is 0.
func (r Report) WriteText(w io.Writer, width int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s as %s, change log %s\n\n", printable(r.Database), printable(r.Role), printable(r.Log))
	list := r.worstFirst()
	names, levels := 0, 0
	for _, f := range list {
		names, levels = max(names, len(f.Check)), max(levels, len(f.Level))
	}
	indent := strings.Repeat(" ", levels+names+4)
	if width > 0 {
		width = max(width-len(indent), leastText)
	}
	for _, f := range list {
		fmt.Fprintf(&b, "%-*s  %-*s  ", levels, f.Level, names, f.Check)
		b.WriteString(strings.Join(wrap(printable(f.What), width), "\n"+indent) + "\n")
		if f.Do != "" {
			b.WriteString(indent + strings.Join(wrap("do: "+printable(f.Do), width), "\n"+indent) + "\n")
		}
	}
	b.WriteString("\n" + r.summary() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Report) summary() string {
	var parts []string
	for _, l := range []Level{Problem, Warning, Note} {
		switch n := r.Count(l); n {
		case 0:
		case 1:
			parts = append(parts, "1 "+string(l))
		default:
			parts = append(parts, strconv.Itoa(n)+" "+string(l)+"s")
		}
	}
	return strings.Join(append(parts, strconv.Itoa(r.Count(OK))+" ok"), ", ")
}

// wrap breaks a text at its spaces. SQL that is broken there is still SQL.
func wrap(text string, width int) []string {
	if width == 0 {
		return []string{text}
	}
	var lines []string
	line, length := "", 0
	for word := range strings.SplitSeq(text, " ") {
		n := utf8.RuneCountInString(word)
		if length > 0 && length+1+n > width {
			lines = append(lines, line)
			line, length = "", 0
		}
		if length > 0 {
			line += " "
			length++
		}
		line += word
		length += n
	}
	return append(lines, line)
}

// printable keeps names and statements of others from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
