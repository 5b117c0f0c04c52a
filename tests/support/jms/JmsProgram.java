import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import javax.jms.BytesMessage;
import javax.jms.Connection;
import javax.jms.DeliveryMode;
import javax.jms.MapMessage;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.ObjectMessage;
import javax.jms.Session;
import javax.jms.StreamMessage;
import javax.jms.TextMessage;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.command.ActiveMQDestination;

/**
 * A JMS program for the tests: commands on stdin, one answer each on stdout; words are base64 of UTF-8.
 *
 * send QUEUE KIND BODY [NAME TYPE VALUE]...   names that begin with "!" are headers of JMS
 * receive QUEUE MILLISECONDS                  answers: KIND BODY [NAME TYPE VALUE]..., or "none"
 */
public class JmsProgram {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    private final Session session;

    private JmsProgram(Session session) {
        this.session = session;
    }

    public static void main(String[] arguments) throws Exception {
        ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory(arguments[0]);
        Connection connection = factory.createConnection(arguments[1], arguments[2]);
        connection.start();
        JmsProgram program = new JmsProgram(connection.createSession(false, Session.AUTO_ACKNOWLEDGE));
        OUT.println("ready");
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line; (line = commands.readLine()) != null;) {
            try {
                OUT.println(program.run(decoded(line)));
            } catch (Exception error) {
                OUT.println("error " + encoded(error.toString()));
            }
        }
        System.exit(0);
    }

    private String run(List<String> words) throws Exception {
        return words.get(0).equals("send") ? send(words) : receive(words.get(1), Long.parseLong(words.get(2)));
    }

    private String send(List<String> words) throws Exception {
        MessageProducer producer = session.createProducer(session.createQueue(words.get(1)));
        try {
            Message message = made(words.get(2), words.get(3));
            for (int i = 4; i < words.size(); i += 3) {
                set(producer, message, words.get(i), words.get(i + 1), words.get(i + 2));
            }
            producer.send(message);
            return "ok " + encoded(message.getJMSMessageID());
        } finally {
            producer.close();
        }
    }

    private Message made(String kind, String body) throws Exception {
        if (kind.equals("bytes")) {
            BytesMessage message = session.createBytesMessage();
            message.writeBytes(Base64.getDecoder().decode(body));
            return message;
        }
        if (kind.equals("map")) {
            MapMessage message = session.createMapMessage();
            message.setString("text", body);
            return message;
        }
        if (kind.equals("stream")) {
            StreamMessage message = session.createStreamMessage();
            message.writeString(body);
            return message;
        }
        if (kind.equals("object")) {
            return session.createObjectMessage(body);
        }
        return kind.equals("none") ? session.createMessage() : session.createTextMessage(body);
    }

    private void set(MessageProducer producer, Message message, String name, String type, String value) throws Exception {
        switch (name) {
            case "!correlation": message.setJMSCorrelationID(value); return;
            case "!type": message.setJMSType(value); return;
            case "!group": message.setStringProperty("JMSXGroupID", value); return;
            case "!reply": message.setJMSReplyTo(ActiveMQDestination.createDestination(value, ActiveMQDestination.QUEUE_TYPE)); return;
            case "!ttl": producer.setTimeToLive(Long.parseLong(value)); return;
            case "!priority": producer.setPriority(Integer.parseInt(value)); return;
            case "!transient": producer.setDeliveryMode(DeliveryMode.NON_PERSISTENT); return;
            default:
        }
        switch (type) {
            case "int": message.setIntProperty(name, Integer.parseInt(value)); return;
            case "long": message.setLongProperty(name, Long.parseLong(value)); return;
            case "double": message.setDoubleProperty(name, Double.parseDouble(value)); return;
            case "boolean": message.setBooleanProperty(name, Boolean.parseBoolean(value)); return;
            default: message.setStringProperty(name, value);
        }
    }

    private String receive(String queue, long wait) throws Exception {
        MessageConsumer consumer = session.createConsumer(session.createQueue(queue));
        try {
            Message message = consumer.receive(wait);
            return message == null ? "none" : "ok " + shown(message);
        } finally {
            consumer.close();
        }
    }

    private static String shown(Message message) throws Exception {
        List<String> words = new ArrayList<>();
        if (message instanceof TextMessage) {
            words.add("text");
            words.add(((TextMessage) message).getText());
        } else if (message instanceof BytesMessage) {
            byte[] body = new byte[(int) ((BytesMessage) message).getBodyLength()];
            ((BytesMessage) message).readBytes(body);
            words.add("bytes");
            words.add(Base64.getEncoder().encodeToString(body));
        } else if (message instanceof MapMessage) {
            words.add("map");
            words.add(((MapMessage) message).getString("text"));
        } else if (message instanceof StreamMessage) {
            words.add("stream");
            words.add(((StreamMessage) message).readString());
        } else if (message instanceof ObjectMessage) {
            words.add("object");
            words.add((String) ((ObjectMessage) message).getObject());
        } else {
            words.add("other");
            words.add("");
        }
        header(words, "!id", message.getJMSMessageID());
        header(words, "!correlation", message.getJMSCorrelationID());
        header(words, "!type", message.getJMSType());
        header(words, "!reply", message.getJMSReplyTo());
        header(words, "!priority", message.getJMSPriority());
        header(words, "!expires", message.getJMSExpiration());
        for (Object name : Collections.list(message.getPropertyNames())) {
            Object value = message.getObjectProperty((String) name);
            header(words, (String) name, value);
        }
        StringBuilder line = new StringBuilder();
        for (String word : words) {
            line.append(line.length() == 0 ? "" : " ").append(encoded(word));
        }
        return line.toString();
    }

    private static void header(List<String> words, String name, Object value) {
        if (value != null) {
            words.add(name);
            words.add(value.getClass().getSimpleName().toLowerCase());
            words.add(value.toString());
        }
    }

    private static List<String> decoded(String line) {
        List<String> words = new ArrayList<>();
        for (String word : line.split(" ")) {
            words.add(new String(Base64.getDecoder().decode(word.substring(1)), StandardCharsets.UTF_8));
        }
        return words;
    }

    private static String encoded(String word) {
        return "=" + Base64.getEncoder().encodeToString(word.getBytes(StandardCharsets.UTF_8));
    }
}
