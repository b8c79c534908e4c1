// Package database is the action that calls a function of a PostgreSQL database.
//
// The arguments are rendered before the first attempt and stored with the
// delivery; which function of which database is called follows the
// configuration of the moment. Arguments are bound, never written into the
// statement, and the name of the function is checked and quoted.
package database
