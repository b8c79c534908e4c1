package testenv

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// container is a PostgreSQL in Docker.
type container struct {
	url      string
	watchdog *watchdog
}

// runContainer starts a server in a container that a watchdog removes when this
// process is no more.
func runContainer(ctx context.Context) (*container, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute) // the image may have to be fetched
	defer cancel()
	if _, err := docker(ctx, "version", "--format", "{{.Server.Version}}"); err != nil {
		return nil, err
	}
	name := "observer-test-" + strings.ToLower(rand.Text()[:12])
	dog, err := watch(ctx, `docker rm --force --volumes "$1" >/dev/null 2>&1`, name)
	if err != nil {
		return nil, err
	}
	c := &container{watchdog: dog}
	if err := c.start(ctx, name); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, nil
}

func (c *container) start(ctx context.Context, name string) error {
	password := rand.Text()
	image := cmp.Or(os.Getenv("TEST_POSTGRES_IMAGE"), "postgres:17-alpine")
	_, err := docker(ctx, "run", "--detach", "--name", name, "--publish", "127.0.0.1::5432", "--env", "POSTGRES_PASSWORD="+password, image,
		"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=300")
	if err != nil {
		return err
	}
	address, err := docker(ctx, "port", name, "5432/tcp")
	if err != nil {
		return err
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", password), Host: address, Path: "/postgres", RawQuery: "sslmode=disable"}
	c.url = u.String()
	return answer(ctx, c.url)
}

// answer waits until a server takes connections.
func answer(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL in Docker takes no connections: %w", err)
		}
	}
}

func (c *container) remove() error { return c.watchdog.dismiss() }

// docker returns the first line that a command prints.
func docker(ctx context.Context, args ...string) (string, error) {
	var said strings.Builder
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w %s", args[0], err, strings.TrimSpace(said.String()))
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}
