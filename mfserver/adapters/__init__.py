"""Where Twisted meets the wire: each adapter moves bytes in, walks the events, moves bytes out."""
