package dev.lakehouse.envelope;

/** Says why a record can't be placed. It carries no stack trace, because a producer decides how often it is thrown. */
final class Unplaceable extends Exception {
    private static final long serialVersionUID = 1L;

    private final ErrorType type;

    Unplaceable(ErrorType type, String message) {
        super(message, null, false, false);
        this.type = type;
    }

    ErrorType type() {
        return type;
    }
}
