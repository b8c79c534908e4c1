package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Error is one mistake in a configuration and where it stands.
type Error struct {
	// File is the configuration file as it was named.
	File string `json:"file"`
	// Line and Column count from 1, columns in characters. Line is 0 where the
	// mistake stands in no line: a value from the environment, a missing section.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Key is the path of the key, such as "observers[0].actions[1].url"; "" for
	// a mistake of the file as a whole.
	Key string `json:"key,omitempty"`
	// Message says what is wrong and what would be right. It contains no secret.
	Message string `json:"message"`
}

// Error is "file:line:column: key: message", without the parts that are unknown.
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		b.WriteString(":" + strconv.Itoa(e.Line) + ":" + strconv.Itoa(e.Column))
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	b.WriteString(": " + e.Message)
	return b.String()
}

// Errors are all mistakes of a configuration, sorted by place. A caller finds
// them with errors.As.
type Errors []Error

// Error has one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted orders the mistakes by place and drops repetitions, which arise where
// two checks stumble over one value.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Key, b.Key))
	})
	return slices.Compact(e)
}

// FileError is a configuration file that cannot be read. It unwraps to the
// reason, such as fs.ErrNotExist.
type FileError struct {
	Path string
	Err  error
}

// Error says what is wrong with the file and what to do.
func (e *FileError) Error() string {
	if errors.Is(e.Err, fs.ErrNotExist) {
		return fmt.Sprintf("configuration file %s does not exist: write one with `fraiseql-observer init`, "+
			"or name another with --config", e.Path)
	}
	return fmt.Sprintf("configuration file %s cannot be read: %v", e.Path, e.Err)
}

func (e *FileError) Unwrap() error { return e.Err }
