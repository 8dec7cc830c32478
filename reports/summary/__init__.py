"""From records to what a report says in numbers and caveats."""
