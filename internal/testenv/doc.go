// Package testenv gives tests the real servers they need.
//
// [Database] is what most tests want: the URL of a fresh PostgreSQL database.
// The databases of a test binary live in one server, which the first test that
// asks for it starts. A test that stops its server, kills it or needs other
// settings has one of its own with [PrivatePostgres], with a standby if it likes.
//
// The server comes from the first of these that works:
//
//  1. TEST_DATABASE_URL: the URL of a role that may create databases.
//  2. Installed server binaries, in TEST_POSTGRES_BIN, in what pg_config
//     --bindir prints, in /usr/lib/postgresql/*/bin (the newest) or on the PATH.
//     They run as an unprivileged user when the tests run as root, on a free
//     loopback port with a random password, in a temporary directory.
//  3. Debian's package, when the tests run as root on such a system: it is
//     installed with apt-get.
//  4. Docker, with the image in TEST_POSTGRES_IMAGE (postgres:17-alpine).
//
// Where none works the test is skipped with the reasons, or fails when the
// variable CI is set. A private server needs binaries (2 or 3): it is started,
// killed and copied in ways that no URL allows.
//
// [Redis] is the URL of an empty Redis database, [PrivateRedis] a server that the
// test may kill, pause, empty and reconfigure. The server is that of
// TEST_REDIS_URL, or a binary: TEST_REDIS_SERVER, redis-server or valkey-server
// on the PATH, or Debian's package, installed as that of PostgreSQL is.
//
// [NATS] is the URL of a NATS server with JetStream in the process of the test.
// [PrivateNATS] and [NATSCluster] are servers in processes of their own, which the
// test may kill, pause and configure. Their binary is TEST_NATS_SERVER, or built
// from the version in go.mod and kept in the user's cache directory.
//
// What was started ends with the process that started it, also when that is
// killed: see workspace. [Main] ends it before the process does.
package testenv
