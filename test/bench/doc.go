// Package bench measures the whole line: the relay by itself, and a SQLite
// change log to a webhook receiver on the loopback interface against a bare
// HTTP client that posts the same bodies in the same run.
//
//	go test -run '^$' -bench . -benchtime 5x ./test/bench/
package bench
