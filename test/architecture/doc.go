// Package architecture holds the tests of the tree itself: who may import whom,
// how things are called, what every file must and must not contain, and that
// the documents name things that exist. Each rule is a function from a tree to
// the problems in it; the rules run over this repository and, so that they are
// known to be able to fail, over small trees that break them.
package architecture
