// Package celenv is the one CEL environment that conditions and templates
// share: its variables, its functions, its exact numbers and its limits.
//
// CEL compares and adds by Go type, and JSON has one kind of number only. So a
// number of an image becomes a [Number], an exact decimal, and every operator
// of a checked expression that may meet one is replaced by a function of this
// package that knows decimals in both operand positions.
package celenv
