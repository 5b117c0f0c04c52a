"""Never run: what type checkers must see of the public interface (`make types`)."""
