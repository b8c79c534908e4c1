// Package bench measures the whole line, always both sides in the same run: the
// relay by itself, a change log read against a bare read of its rows, changes
// sent as webhooks on the loopback interface against a bare HTTP client that
// posts the same bodies, three workers of a stream against one, what capture costs
// writers, and the memory of a daemon that finds a million rows.
//
//	go test -run '^$' -bench . -benchtime 5x ./test/bench/
package bench
