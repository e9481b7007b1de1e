//! A load, a change and a query over the wire, to a server of the test's own.
