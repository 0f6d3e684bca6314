import java.net.ConnectException;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.PortUnreachableException;
import java.net.Socket;
import java.nio.charset.StandardCharsets;

/** Client tcp|udp ADDR PORT: connects, asks, prints {peer, local, reply}. */
public class Client {
  static String text(InetAddress address, int port) {
    String host = address.getHostAddress();
    return host.contains(":") ? "[" + host + "]:" + port : host + ":" + port;
  }

  static void show(String peer, String local, byte[] reply, int length) {
    String said = new String(reply, 0, length, StandardCharsets.US_ASCII).trim();
    System.out.printf("{\"peer\":\"%s\",\"local\":\"%s\",\"reply\":\"%s\"}%n", peer, local, said);
  }

  public static void main(String[] args) throws Exception {
    InetSocketAddress to = new InetSocketAddress(InetAddress.getByName(args[1]), Integer.parseInt(args[2]));
    byte[] hello = "java\n".getBytes(StandardCharsets.US_ASCII);
    byte[] reply = new byte[512];
    try {
      if (args[0].equals("tcp")) {
        try (Socket socket = new Socket()) {
          socket.setSoTimeout(5000);
          socket.connect(to, 5000);
          socket.getOutputStream().write(hello);
          int got = socket.getInputStream().read(reply);
          show(text(socket.getInetAddress(), socket.getPort()),
              text(socket.getLocalAddress(), socket.getLocalPort()), reply, got);
        }
      } else {
        try (DatagramSocket socket = new DatagramSocket()) {
          socket.setSoTimeout(5000);
          socket.connect(to);
          socket.send(new DatagramPacket(hello, hello.length));
          DatagramPacket packet = new DatagramPacket(reply, reply.length);
          socket.receive(packet);
          show(text(socket.getInetAddress(), socket.getPort()),
              text(socket.getLocalAddress(), socket.getLocalPort()), reply, packet.getLength());
        }
      }
    } catch (ConnectException | PortUnreachableException refused) {
      System.out.println("{\"error\":\"ECONNREFUSED\"}");
    } catch (java.io.UncheckedIOException wrapped) {
      System.out.println("{\"error\":\"" + wrapped.getCause() + "\"}");
    }
  }
}
