package postgres_test

import (
	"fmt"
	"slices"
	"time"
)

// kinds are the transactions of a writer, each as often as it is to be drawn.
func (w *stressWriter) kinds() []func() {
	var kinds []func()
	for _, kind := range []struct {
		times int
		run   func()
	}{
		{50, w.one}, {15, w.many}, {10, w.twice}, {10, w.rollBack}, {8, w.rollBackToSavepoint}, {6, w.drawInSavepoint},
		{5, w.slow}, {6, w.drawEarly}, {6, w.drawBeforeLock}, {6, w.prepare},
	} {
		kinds = append(kinds, slices.Repeat([]func(){kind.run}, kind.times)...)
	}
	return kinds
}

// storm are transactions that draw keys and overtake each other as fast as they
// can: what a reader does a moment too early or too late shows.
func (w *stressWriter) storm() []func() {
	return []func(){w.add, w.add, w.drawBriefly}
}

// add changes an entity that nobody waits for.
func (w *stressWriter) add() {
	w.begin()
	w.create()
	w.change()
	w.end("COMMIT")
}

// drawBriefly keeps a key for about as long as a reader takes to look twice.
func (w *stressWriter) drawBriefly() {
	w.begin()
	key := w.draw()
	w.pause(0, 15*time.Millisecond)
	w.create()
	w.changeAt(key)
	w.end("COMMIT")
}

// one changes an entity that others wait for.
func (w *stressWriter) one() {
	w.begin()
	w.lock(w.hot(), 1)
	w.change()
	w.end("COMMIT")
}

// many changes several entities with one statement.
func (w *stressWriter) many() {
	w.begin()
	w.lock(w.entities, 2+w.random.IntN(6))
	w.change()
	w.end("COMMIT")
}

// twice changes one entity several times, with something between.
func (w *stressWriter) twice() {
	w.begin()
	w.lock(w.hot(), 1)
	w.change()
	w.pause(0, 5*time.Millisecond)
	w.change()
	w.change()
	w.end("COMMIT")
}

// rollBack leaves a key that nobody will ever see.
func (w *stressWriter) rollBack() {
	w.begin()
	w.lock(w.entities, 1+w.random.IntN(3))
	w.change()
	w.pause(0, 30*time.Millisecond)
	w.end("ROLLBACK")
}

// rollBackToSavepoint draws keys, gives them up and goes on.
func (w *stressWriter) rollBackToSavepoint() {
	w.begin()
	w.lock(w.cold(), 2)
	w.change()
	w.exec("SAVEPOINT s")
	kept := len(w.changes)
	w.change()
	w.exec("ROLLBACK TO SAVEPOINT s")
	w.changes = w.changes[:kept]
	w.pause(0, 60*time.Millisecond)
	w.change()
	w.end("COMMIT")
}

// drawInSavepoint uses a key that was drawn in a savepoint after rolling back
// to it.
func (w *stressWriter) drawInSavepoint() {
	w.begin()
	w.lock(w.cold(), 1)
	w.exec("SAVEPOINT s")
	key := w.draw()
	w.exec("ROLLBACK TO SAVEPOINT s")
	w.pause(0, 120*time.Millisecond)
	w.changeAt(key)
	w.end("COMMIT")
}

// slow stays open after its change.
func (w *stressWriter) slow() {
	w.begin()
	w.lock(w.cold(), 1+w.random.IntN(2))
	w.change()
	w.pause(50*time.Millisecond, 750*time.Millisecond)
	w.end("COMMIT")
}

// drawEarly draws the key long before the row is written.
func (w *stressWriter) drawEarly() {
	w.begin()
	w.lock(w.cold(), 1)
	key := w.draw()
	w.pause(0, 400*time.Millisecond)
	w.changeAt(key)
	w.end("COMMIT")
}

// drawBeforeLock draws the key before anything else, when the transaction has no
// id yet. The order of two changes of an entity is that of their keys only where
// the row is locked first, so this entity is nobody else's.
func (w *stressWriter) drawBeforeLock() {
	w.begin()
	key := w.draw()
	w.pause(0, 300*time.Millisecond)
	w.create()
	w.changeAt(key)
	w.end("COMMIT")
}

// prepare leaves the transaction to another connection, which commits it
// seconds later, or rolls it back. It does something else when enough prepared
// transactions hold their locks, or the server has none.
func (w *stressWriter) prepare() {
	select {
	case w.prepared <- struct{}{}:
	default:
		w.one()
		return
	}
	name := fmt.Sprintf("'%x-%s-%d'", w.stand.seed, w.name, w.count) // unique in the server
	w.begin()
	key := w.draw()
	w.lock(w.cold(), 2)
	w.change()
	w.pause(0, 50*time.Millisecond)
	w.create()
	w.changeAt(key)
	changes := w.changes
	if !w.end("PREPARE TRANSACTION " + name) {
		<-w.prepared
		return
	}
	end := "COMMIT PREPARED "
	if w.random.IntN(4) == 0 {
		changes, end = nil, "ROLLBACK PREPARED "
	}
	delay := 200*time.Millisecond + w.upTo(2300*time.Millisecond)
	w.pending.Go(func() {
		defer func() { <-w.prepared }()
		stressPause(w.stand.Context(), delay)
		w.failed(w.stand.endPrepared(end+name, changes))
	})
}
