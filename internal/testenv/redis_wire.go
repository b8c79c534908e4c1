package testenv

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// redisError is what the server answered to a command it did not run.
type redisError string

func (e redisError) Error() string { return string(e) }

// redisDo connects, sends one command and reads its answer. It needs neither a
// pool nor a goroutine, which tests that look for leaks would find.
func redisDo(ctx context.Context, server string, args ...string) (any, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("read the URL of Redis: %w", cmp.Or(errors.Unwrap(err), err))
	}
	conn, err := dialRedis(ctx, u)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // the answer has come, or will not
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	reader := bufio.NewReader(conn)
	var answer any
	for _, command := range append(greeting(u), args) {
		if _, err := io.WriteString(conn, redisRequest(command)); err != nil {
			return nil, err
		}
		if answer, err = redisAnswer(reader); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

func dialRedis(ctx context.Context, u *url.URL) (net.Conn, error) {
	address := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "6379"))
	if u.Scheme == "rediss" {
		return (&tls.Dialer{}).DialContext(ctx, "tcp", address)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// greeting is what comes before a command on a new connection.
func greeting(u *url.URL) [][]string {
	var commands [][]string
	if password, ok := u.User.Password(); ok {
		commands = append(commands, []string{"AUTH", cmp.Or(u.User.Username(), "default"), password})
	}
	if database := strings.Trim(u.Path, "/"); database != "" {
		commands = append(commands, []string{"SELECT", database})
	}
	return commands
}

func redisRequest(args []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b.String()
}

func redisAnswer(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	kind, rest := line[0], strings.TrimRight(line[1:], "\r\n")
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, redisError(rest)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	switch {
	case err != nil:
		return nil, err
	case kind == ':':
		return n, nil
	case n < 0:
		return nil, nil //nolint:nilnil // a null is an answer
	case kind == '$':
		text := make([]byte, n+2)
		_, err := io.ReadFull(r, text)
		return string(text[:n]), err
	}
	list := make([]any, 0, n)
	for range n {
		element, err := redisAnswer(r)
		if err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	return list, nil
}
