// Package examples has configurations to begin with, each with a README that says
// when to use it, and a program that embeds the daemon. Its tests start them all.
package examples
