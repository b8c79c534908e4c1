package template

import (
	"regexp"
	"strings"
)

// plainLink is a URL as apps find it in text by themselves. Nothing in it is
// formatted, and a backslash in it would lead elsewhere.
var plainLink = regexp.MustCompile("https?://[^\\s<>()\\[\\]\"'`|\\\\]+")

func writeMarkdown(b []byte, _ *part, v value) ([]byte, error) {
	s, err := text(v)
	if err != nil {
		return b, err
	}
	for s != "" {
		link := plainLink.FindStringIndex(s)
		if link == nil {
			link = []int{len(s), len(s)}
		}
		b = append(b, markdownEscape(s[:link[0]])...)
		b = append(b, s[link[0]:link[1]]...)
		s = s[link[1]:]
	}
	return b, nil
}

// markdownEscape puts a backslash before what makes a link, a mention or inline
// formatting. Between the halves of a link it puts one more, for readers that
// look for "](" and know no backslashes. Discord looks for @everyone before it
// looks for backslashes, so a space of no width stands in it.
func markdownEscape(s string) string {
	return strings.NewReplacer(
		`](`, `\]\(`, `\`, `\\`, `*`, `\*`, `_`, `\_`, `~`, `\~`, "`", "\\`", `|`, `\|`,
		`[`, `\[`, `]`, `\]`, `<`, `\<`, `>`, `\>`,
		"@everyone", "@\u200beveryone", "@here", "@\u200bhere",
	).Replace(s)
}
